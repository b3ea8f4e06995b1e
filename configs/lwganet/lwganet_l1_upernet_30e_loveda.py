# LWGANet-L1, UPerNet, on LoveDA (Lu et al., AAAI 2025).
# Reported: nothing for this combination.
# Protocol: the server's, on Test: mIoU of seven classes with the background. 8 passes at test (`--tta`): horizontal
# flip, four scales, mean of logits.
# Training: 1 GPU x 16 images, AdamW within Lookahead 4e-4, 30 epochs, ImageNet-1k weights; the recipe of UNetFormer,
# with UPerNet in its place.
_base_ = [
    '../_base_/backbones/lwganet_l1.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/loveda.py',
    '../_base_/schedules/segmentation_30e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=7),
    auxiliary_head=dict(in_channels=_base_.backbone_channels[2], num_classes=7),
    test_cfg=dict(_delete_=True, mode='whole'))
tta = dict(scales=(0.75, 1.0, 1.25, 1.5), average='logits', resize='bicubic')
predict = dict(window=1024, overlap=256)
