#!/usr/bin/env bash
# torchvision 0.28.0 (torch 2.13.0): under bfloat16 autocast the anchors of the detectors are rounded to bfloat16, which is
# exact to 4 px at best beyond pixel 512. Anchors are made in the type of the feature maps, and autocast makes these bfloat16.
#
# Faster R-CNN (MobileNetV3-Large with FPN, random weights) on one image of 1024 x 1024 px: two thirds of its anchors move by
# a pixel or more, the furthest by 4 px; one overlaps the anchor of float32 by an IoU of 0.78 only. Boxes are decoded from the
# moved anchors. float16 is exact to half a pixel there.
#
#   float32: torch.float32
#   autocast to bfloat16: torch.bfloat16, 65% of 21285 anchors moved by 1 px or more, the furthest by 4 px, lowest IoU 0.78
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" torch==2.13.0 torchvision==0.28.0
cat > "$folder/anchors.py" <<'PYTHON'
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
from torchvision.ops import box_area

torch.manual_seed(0)
model = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None).eval()
anchors = []
model.rpn.anchor_generator.register_forward_hook(lambda module, inputs, output: anchors.append(output[0]))
image = torch.rand(3, 1024, 1024)
with torch.no_grad():
    model([image])
    with torch.autocast("cpu", torch.bfloat16):
        model([image])
exact, rounded = anchors[0], anchors[1].float()
print(f"float32: {exact.dtype}")
moved = (exact - rounded).abs().amax(1)
sides = (torch.minimum(exact[:, 2:], rounded[:, 2:]) - torch.maximum(exact[:, :2], rounded[:, :2])).clamp(min=0)
common = sides.prod(1)
iou = common / (box_area(exact) + box_area(rounded) - common)
print(
    f"autocast to bfloat16: {anchors[1].dtype}, {(moved >= 1).float().mean():.0%} of {len(exact)} anchors moved by "
    f"1 px or more, the furthest by {moved.max():.0f} px, lowest IoU {iou.min():.2f}"
)
PYTHON
"$folder/venv/bin/python" "$folder/anchors.py" | tee "$folder/seen"
sed -n 's/^#   //p' "$0" | diff - "$folder/seen"
