#!/usr/bin/env bash
# rasterio 1.4.4 (GDAL 3.10.3), Pillow 12.0.0, OpenCV 4.12.0: GDAL's colours of a JPEG whose chroma is stored at half
# size (4:2:0, what cameras and most programs write) are not those of Pillow and OpenCV, which agree bit by bit. On
# stripes of two colours the values differ by up to 28. Of a JPEG with full chroma (4:4:4) all three agree.
#
#   4:4:4: Pillow and OpenCV differ by 0, Pillow and GDAL by 0 at most
#   4:2:0: Pillow and OpenCV differ by 0, Pillow and GDAL by 28 at most
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.2.6 pillow==12.0.0 \
    opencv-python-headless==4.12.0.88
cat > "$folder/colours.py" <<'PYTHON'
import warnings

import cv2
import numpy as np
import rasterio
from PIL import Image

warnings.simplefilter("ignore")
stripes = np.zeros((64, 64, 3), np.uint8)
for x in range(64):
    stripes[:, x] = ((200, 60, 60), (60, 60, 200))[x // 5 % 2]
for name in ("4:4:4", "4:2:0"):
    Image.fromarray(stripes).save("a.jpg", quality=95, subsampling=name)
    pillow = np.asarray(Image.open("a.jpg")).astype(int)
    opencv = cv2.imread("a.jpg")[..., ::-1].astype(int)
    with rasterio.open("a.jpg") as raster:
        gdal = np.moveaxis(raster.read(), 0, 2).astype(int)
    line = f"{name}: Pillow and OpenCV differ by {np.abs(pillow - opencv).max()}"
    print(f"{line}, Pillow and GDAL by {np.abs(pillow - gdal).max()} at most")
PYTHON
cd "$folder"
venv/bin/python colours.py | tee out
diff out - <<'EXPECTED'
4:4:4: Pillow and OpenCV differ by 0, Pillow and GDAL by 0 at most
4:2:0: Pillow and OpenCV differ by 0, Pillow and GDAL by 28 at most
EXPECTED
