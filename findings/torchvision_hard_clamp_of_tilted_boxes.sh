#!/usr/bin/env bash
# torchvision 0.28.0 (torch 2.13.0): clamping_mode="hard" halves the short side of a rotated box (CXCYWHR) as soon as it is
# tilted and one of its ends is outside of the image, however small the angle and wherever the end is.
#
# A box of 40 x 10 px around (5, 50) in an image of 100 x 100 px: 250 px of it are in the image. With no angle, clamping keeps
# all 250. Tilted by 1 degree, half of what is visible is cut off along the whole box, although the full height is inside the image
# nearly everywhere. "soft" keeps the height.
#
#   0 degrees, hard: sides [25.0, 10.0], covers 250 of 250 visible px
#   1 degrees, hard: sides [25.0, 5.0], covers 125 of 250 visible px
#   1 degrees, soft: sides [25.1, 10.0], covers 250 of 250 visible px
#   5 degrees, hard: sides [25.0, 5.0], covers 125 of 250 visible px
#   5 degrees, soft: sides [25.5, 10.0], covers 250 of 250 visible px
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" torch==2.13.0 torchvision==0.28.0 shapely==2.1.2
cat > "$folder/clamp.py" <<'PYTHON'
import torch
from shapely import Polygon, box
from torchvision.transforms.v2.functional import clamp_bounding_boxes, convert_bounding_box_format
from torchvision.tv_tensors import BoundingBoxes


def outline(boxes):
    corners = convert_bounding_box_format(boxes, new_format="XYXYXYXY")
    return Polygon(corners.reshape(4, 2).tolist())


for angle, mode in ((0, "hard"), (1, "hard"), (1, "soft"), (5, "hard"), (5, "soft")):
    given = torch.tensor([[5.0, 50.0, 40.0, 10.0, angle]])
    boxes = BoundingBoxes(given, format="CXCYWHR", canvas_size=(100, 100), clamping_mode=mode)
    clamped = clamp_bounding_boxes(boxes)
    visible = outline(boxes).intersection(box(0, 0, 100, 100))
    sides = [round(side, 1) for side in clamped[0, 2:4].tolist()]
    covered = outline(clamped).intersection(visible).area
    print(f"{angle} degrees, {mode}: sides {sides}, covers {covered:.0f} of {visible.area:.0f} visible px")
PYTHON
cd "$folder"
venv/bin/python clamp.py | tee out
diff out - <<'EXPECTED'
0 degrees, hard: sides [25.0, 10.0], covers 250 of 250 visible px
1 degrees, hard: sides [25.0, 5.0], covers 125 of 250 visible px
1 degrees, soft: sides [25.1, 10.0], covers 250 of 250 visible px
5 degrees, hard: sides [25.0, 5.0], covers 125 of 250 visible px
5 degrees, soft: sides [25.5, 10.0], covers 250 of 250 visible px
EXPECTED
