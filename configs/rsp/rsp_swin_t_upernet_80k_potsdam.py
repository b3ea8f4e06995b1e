# RSP-Swin-T-E300, UPerNet, on Potsdam (Wang et al., TGRS 2022).
# Reported: 90.03 mean F1 of five classes, in per cent, on the 14 test tiles of Potsdam (`mF1`).
# Protocol: clutter pixels are not in the confusion matrix; whole tiles at a single scale, windows of 512 px every 384
# px, no flip.
# Training: 1 GPU x 4 images, AdamW 6e-5, 80 000 iterations, backbone from MillionAID.
_base_ = [
    '../_base_/backbones/rsp_swin_t.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/rsp_potsdam.py',
    '../_base_/schedules/segmentation_80k_adamw.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=5),
    auxiliary_head=dict(in_channels=_base_.backbone_channels[2], num_classes=5))
train_dataloader = dict(batch_size=4)
default_hooks = dict(checkpoint=dict(interval=8000, save_best='mF1'))
predict = dict(window=512, overlap=128)
