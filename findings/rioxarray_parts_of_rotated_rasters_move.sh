#!/usr/bin/env bash
# rioxarray 0.19.0 (rasterio 1.4.4, xarray 2025.6.1): a part of a rotated raster, taken with isel(), is written to where the
# whole raster begins. The transform of a rotated raster is an attribute, which xarray's slicing leaves as it is; without
# rotation it follows from the sliced coordinates, and the part is placed right.
#
# Rows 5 to 9 and columns 10 to 19 of a raster of 1 m pixels at (500000, 5200000), written and opened again:
#
#   not rotated: written at 500010.00 5199995.00, belongs at 500010.00 5199995.00
#   rotated by 30 degrees: written at 500000.00 5200000.00, belongs at 500011.16 5200000.67
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rioxarray==0.19.0 xarray==2025.6.1 rasterio==1.4.4 numpy==2.2.6
cat > "$folder/part.py" <<'PYTHON'
import warnings

import numpy as np
import rasterio
import rioxarray
from affine import Affine

warnings.simplefilter("ignore")
values = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
for name, angle in (("not rotated", 0), ("rotated by 30 degrees", 30)):
    transform = Affine.translation(500000, 5200000) * Affine.rotation(angle) * Affine.scale(1, -1)
    profile = dict(driver="GTiff", width=30, height=20, count=1, dtype="float32", crs="EPSG:32633")
    with rasterio.open("whole.tif", "w", transform=transform, **profile) as raster:
        raster.write(values, 1)
    rioxarray.open_rasterio("whole.tif").isel(x=slice(10, 20), y=slice(5, 10)).rio.to_raster("part.tif")
    with rasterio.open("part.tif") as raster:
        assert np.array_equal(raster.read(1), values[5:10, 10:20])
        (x, y), (right_x, right_y) = raster.transform * (0, 0), transform * (10, 5)
    print(f"{name}: written at {x:.2f} {y:.2f}, belongs at {right_x:.2f} {right_y:.2f}")
PYTHON
cd "$folder"
venv/bin/python part.py | tee out
diff out - <<'EXPECTED'
not rotated: written at 500010.00 5199995.00, belongs at 500010.00 5199995.00
rotated by 30 degrees: written at 500000.00 5200000.00, belongs at 500011.16 5200000.67
EXPECTED
