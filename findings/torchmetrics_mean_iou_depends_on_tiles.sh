#!/usr/bin/env bash
# torchmetrics 1.9.0 (torch 2.13.0): torchmetrics.segmentation.MeanIoU is a mean over samples, so the same label map has
# another mIoU when it is cut into tiles of another size. MulticlassJaccardIndex of torchmetrics.classification, which sums one
# confusion matrix, gives one number: the mIoU that Potsdam, Vaihingen, LoveDA and Cityscapes define.
#
# A map of 64 x 64 px with three classes and a prediction of it, whole and as tiles of 32 and 16 px:
#
#   64 px: MeanIoU 0.663, MulticlassJaccardIndex 0.663
#   32 px: MeanIoU 0.686, MulticlassJaccardIndex 0.663
#   16 px: MeanIoU 0.684, MulticlassJaccardIndex 0.663
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchmetrics==1.9.0 numpy==2.2.6
cat > "$folder/tiles.py" <<'PYTHON'
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

truth = torch.zeros(64, 64, dtype=torch.long)
truth[:, 48:], truth[:8, :8] = 1, 2
found = truth.clone()
found[:, 40:56], found[4:8, :8] = 1, 0
for side in (64, 32, 16):
    tiles = [x.unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side) for x in (found, truth)]
    mean, jaccard = MeanIoU(num_classes=3, input_format="index"), MulticlassJaccardIndex(num_classes=3)
    mean.update(*tiles)
    jaccard.update(*tiles)
    print(f"{side} px: MeanIoU {mean.compute():.3f}, MulticlassJaccardIndex {jaccard.compute():.3f}")
PYTHON
cd "$folder"
venv/bin/python tiles.py | tee out
diff out - <<'EXPECTED'
64 px: MeanIoU 0.663, MulticlassJaccardIndex 0.663
32 px: MeanIoU 0.686, MulticlassJaccardIndex 0.663
16 px: MeanIoU 0.684, MulticlassJaccardIndex 0.663
EXPECTED
