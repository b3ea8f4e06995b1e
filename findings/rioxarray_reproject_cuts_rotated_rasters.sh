#!/usr/bin/env bash
# rioxarray 0.19.0 (rasterio 1.4.4, xarray 2025.6.1): reproject() of a rotated raster cuts most of it off without an error.
# rio.bounds() are those of the raster without its rotation, and reproject() takes its output grid from them. GDAL's own
# warped view (rasterio's WarpedVRT) covers the whole raster.
#
# A raster of 30 x 20 px of 1 m, turned by 30 degrees, every pixel with a value of its own. Both programs warp it to its own
# CRS; the rows count those of 600 values that arrive.
#
#   corners of the raster: 500000.0 5199982.7 500036.0 5200015.0
#   rio.bounds(): 500000.0 5200000.0 500030.0 5200020.0
#   WarpedVRT: 500000.0 5199983.0 500036.0 5200015.0, more than 500 of 600 values: True
#   rio.reproject(): 500000.0 5200000.0 500030.0 5200020.0, more than 300 of 600 values: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rioxarray==0.19.0 xarray==2025.6.1 rasterio==1.4.4 numpy==2.2.6
cat > "$folder/turned.py" <<'PYTHON'
import warnings

import numpy as np
import rasterio
from affine import Affine

warnings.simplefilter("ignore")
turned = Affine.translation(500000, 5200000) * Affine.rotation(30) * Affine.scale(1, -1)
values = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
profile = dict(driver="GTiff", width=30, height=20, count=1, dtype="float32", crs="EPSG:32633", nodata=-1)
with rasterio.open("turned.tif", "w", transform=turned, **profile) as raster:
    raster.write(values, 1)

import rioxarray
from rasterio.vrt import WarpedVRT


def line(bounds):
    return " ".join(f"{value:.1f}" for value in bounds)


def arrived(band):
    return len(np.unique(band[band >= 0]))


with rasterio.open("turned.tif") as raster:
    print("corners of the raster:", line(raster.bounds))
    opened = rioxarray.open_rasterio("turned.tif")
    print("rio.bounds():", line(opened.rio.bounds()))
    with WarpedVRT(raster, crs=raster.crs) as warped:
        print(f"WarpedVRT: {line(warped.bounds)}, more than 500 of 600 values: {arrived(warped.read(1)) > 500}")
    found = opened.rio.reproject("EPSG:32633")
    count = arrived(found.values)
    print(f"rio.reproject(): {line(found.rio.bounds())}, more than 300 of 600 values: {count > 300}")
PYTHON
cd "$folder"
venv/bin/python turned.py | tee out
diff out - <<'EXPECTED'
corners of the raster: 500000.0 5199982.7 500036.0 5200015.0
rio.bounds(): 500000.0 5200000.0 500030.0 5200020.0
WarpedVRT: 500000.0 5199983.0 500036.0 5200015.0, more than 500 of 600 values: True
rio.reproject(): 500000.0 5200000.0 500030.0 5200020.0, more than 300 of 600 values: False
EXPECTED
