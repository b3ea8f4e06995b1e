#!/usr/bin/env bash
# rasterstats 0.21.0 (rasterio 1.4.4, shapely 2.1.2): zonal_stats() of a rotated raster reports no pixel at all, as for a zone
# outside of the raster, with no error or warning. rasterio.mask finds the zone's 50 pixels.
#
# A raster of 30 x 20 px, turned by 30 degrees; the zone is the outline of columns 5 to 14 of rows 5 to 9, mean 219.5.
#
#   not rotated: zonal_stats count 50 mean 219.5; rasterio.mask count 50 mean 219.5
#   rotated by 30 degrees: zonal_stats count 0 mean None; rasterio.mask count 50 mean 219.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterstats==0.21.0 rasterio==1.4.4 shapely==2.1.2 numpy==2.2.6
cat > "$folder/zones.py" <<'PYTHON'
import warnings

import numpy as np
import rasterio
import rasterio.mask
from affine import Affine
from rasterstats import zonal_stats
from shapely import Polygon

warnings.simplefilter("ignore")
values = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
for name, angle in (("not rotated", 0), ("rotated by 30 degrees", 30)):
    transform = Affine.translation(500000, 5200000) * Affine.rotation(angle) * Affine.scale(1, -1)
    profile = dict(driver="GTiff", width=30, height=20, count=1, dtype="float32", crs="EPSG:32633", nodata=-1)
    with rasterio.open("scene.tif", "w", transform=transform, **profile) as raster:
        raster.write(values, 1)
    zone = Polygon([transform * corner for corner in ((5, 5), (15, 5), (15, 10), (5, 10))])
    (stats,) = zonal_stats([zone], "scene.tif", stats="count mean")
    with rasterio.open("scene.tif") as raster:
        inside = rasterio.mask.mask(raster, [zone], filled=False)[0].compressed()
    line = f"{name}: zonal_stats count {stats['count']} mean {stats['mean']}"
    print(f"{line}; rasterio.mask count {inside.size} mean {inside.mean()}")
PYTHON
cd "$folder"
venv/bin/python zones.py | tee out
diff out - <<'EXPECTED'
not rotated: zonal_stats count 50 mean 219.5; rasterio.mask count 50 mean 219.5
rotated by 30 degrees: zonal_stats count 0 mean None; rasterio.mask count 50 mean 219.5
EXPECTED
