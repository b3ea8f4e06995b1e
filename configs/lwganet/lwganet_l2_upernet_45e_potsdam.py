# LWGANet-L2, UPerNet, on Potsdam (Lu et al., AAAI 2025).
# Reported: nothing for this combination.
# Protocol: 14 test tiles, eroded masks, patches of 1024 px without overlap. One confusion matrix; mean F1 and mIoU
# over five classes with clutter kept in the matrix (`mF1/clutter_kept`, `mIoU/clutter_kept`), OA over six. 16 passes
# at test (`--tta`): flips, four scales, mean of logits.
# Training: 1 GPU x 8 images, AdamW within Lookahead 8e-4, 45 epochs, ImageNet-1k weights; the recipe of UNetFormer,
# with UPerNet in its place.
_base_ = [
    '../_base_/backbones/lwganet_l2.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/potsdam.py',
    '../_base_/schedules/segmentation_45e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=6),
    auxiliary_head=dict(in_channels=_base_.backbone_channels[2], num_classes=6),
    test_cfg=dict(_delete_=True, mode='whole'))
tta = dict(
    scales=(0.75, 1.0, 1.25, 1.5),
    flips=(None, 'horizontal', 'vertical', 'diagonal'),
    average='logits',
    resize='bicubic')
default_hooks = dict(checkpoint=dict(save_best='mF1/clutter_kept'))
predict = dict(window=1024, overlap=256)
