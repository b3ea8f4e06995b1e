#!/bin/bash
# pycocotools 2.0.11 with numpy 2: pycocotools.mask.area() raises for more than 255 masks.
#
# area(), toBbox() and iou() take lists of run lengths. With numpy 2.4.6, area() of 255 masks returns 255 numbers, and
# area() of 256 raises "OverflowError: Python integer 256 out of bounds for uint8". The other two take any number.
# (area() makes a uint8 array of the number of masks on its way; numpy 1 wrapped it around, numpy 2 refuses.)
#
# Output seen:
#   255 masks: area (255,), toBbox (255, 4), iou (255, 255)
#   256 masks: area OverflowError: Python integer 256 out of bounds for uint8, toBbox (256, 4), iou (256, 256)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pycocotools==2.0.11 'numpy>=2,<3'
"$folder/venv/bin/python" - > "$folder/seen" <<'PYTHON'
import numpy as np
from pycocotools import mask


def call(name, function):
    try:
        return f"{name} {function().shape}"
    except OverflowError as error:
        return f"{name} OverflowError: {error}"


for count in (255, 256):
    masks = mask.encode(np.ones((4, 4, count), np.uint8, order="F"))
    results = (
        call("area", lambda: mask.area(masks)),
        call("toBbox", lambda: mask.toBbox(masks)),
        call("iou", lambda: mask.iou(masks, masks, [0] * count)),
    )
    print(f"{count} masks: {', '.join(results)}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'EXPECTED'
255 masks: area (255,), toBbox (255, 4), iou (255, 255)
256 masks: area OverflowError: Python integer 256 out of bounds for uint8, toBbox (256, 4), iou (256, 256)
EXPECTED
echo "as described"
