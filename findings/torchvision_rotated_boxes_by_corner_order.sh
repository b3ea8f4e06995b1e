#!/usr/bin/env bash
# torchvision 0.28.0 (torch 2.13.0): converting four corners (XYXYXYXY) to a rotated box (CXCYWHR) gives another box when
# the same corners are listed the other way around. Data sets of oriented objects have quadrilaterals in either
# direction (DOTA, DIOR-R and FAIR1M among them).
#
# A box of 40 x 10 px around (50, 40), turned by 30 degrees, becomes corners that begin at (30.18, 45.67). Converted back they
# give the box. In reverse order, the same set of four points, they give a box of the same size and angle around
# (55, 48.66): moved by its own height. No error is raised. Shapely's area of both quadrilaterals is 400, and the part that the
# converted box shares with it 400 and 0.
#
#   as converted: box [50.0, 40.0, 40.0, 10.0, 30.0], shares 400 of 400
#   reversed: box [55.0, 48.66, 40.0, 10.0, 30.0], shares 0 of 400
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" torch==2.13.0 torchvision==0.28.0 shapely==2.1.2
cat > "$folder/corners.py" <<'PYTHON'
import torch
from shapely import Polygon
from torchvision.transforms.v2.functional import convert_bounding_box_format
from torchvision.tv_tensors import BoundingBoxes

box = BoundingBoxes(torch.tensor([[50.0, 40.0, 40.0, 10.0, 30.0]]), format="CXCYWHR", canvas_size=(100, 100))
corners = convert_bounding_box_format(box, new_format="XYXYXYXY").as_subclass(torch.Tensor).reshape(4, 2)
for name, quad in (("as converted", corners), ("reversed", corners.flip(0))):
    given = BoundingBoxes(quad.reshape(1, 8), format="XYXYXYXY", canvas_size=(100, 100))
    found = convert_bounding_box_format(given, new_format="CXCYWHR")
    back = convert_bounding_box_format(found, new_format="XYXYXYXY").reshape(4, 2)
    true, shape = Polygon(quad.tolist()), Polygon(back.tolist())
    values = [round(value, 2) for value in found[0].tolist()]
    print(f"{name}: box {values}, shares {true.intersection(shape).area:.0f} of {true.area:.0f}")
PYTHON
cd "$folder"
venv/bin/python corners.py | tee out
diff out - <<'EXPECTED'
as converted: box [50.0, 40.0, 40.0, 10.0, 30.0], shares 400 of 400
reversed: box [55.0, 48.66, 40.0, 10.0, 30.0], shares 0 of 400
EXPECTED
