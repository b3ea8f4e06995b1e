#!/usr/bin/env bash
# rasterio 1.5.2 (GDAL 3.12.2), Python 3.12: a class map whose own no-data value is 255 is warped onto its own
# grid with 0 as the no-data value of the target. Valid pixels of class 0 come out as class 1, from `reproject`
# and from `WarpedVRT` alike. With the target's no data left at 255 they stay 0. (rasterio 1.4.4 with GDAL 3.10
# leaves them at 0 in both cases.)
#
#   target no data 0: reproject [1, 1, 2, 5] WarpedVRT [1, 1, 2, 5]
#   target no data 255: reproject [0, 1, 2, 5] WarpedVRT [0, 1, 2, 5]
#
# Needs Python 3.12 or newer (PYTHON=... names it).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.12}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.5.2 numpy==2.4.6
cat > "$folder/warp.py" <<'PYTHON'
import numpy as np
import rasterio
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling, reproject

grid = dict(crs="EPSG:32633", transform=from_origin(500000, 5200000, 1, 1))
labels = np.array([[0, 1, 2, 5]] * 4, np.uint8)
with MemoryFile() as memory:
    with memory.open(driver="GTiff", width=4, height=4, count=1, dtype="uint8", nodata=255, **grid) as made:
        made.write(labels, 1)
    with memory.open() as raster:
        for value in (0, 255):
            warped = np.full((4, 4), 9, np.uint8)
            target = dict(dst_crs=grid["crs"], dst_transform=grid["transform"], dst_nodata=value)
            reproject(rasterio.band(raster, 1), warped, resampling=Resampling.nearest, **target)
            with WarpedVRT(raster, nodata=value, width=4, height=4, **grid) as virtual:
                second = virtual.read(1)
            print(f"target no data {value}: reproject {warped[0].tolist()} WarpedVRT {second[0].tolist()}")
PYTHON
"$folder/venv/bin/python" "$folder/warp.py" | tee "$folder/out"
diff "$folder/out" - <<'EXPECTED'
target no data 0: reproject [1, 1, 2, 5] WarpedVRT [1, 1, 2, 5]
target no data 255: reproject [0, 1, 2, 5] WarpedVRT [0, 1, 2, 5]
EXPECTED
