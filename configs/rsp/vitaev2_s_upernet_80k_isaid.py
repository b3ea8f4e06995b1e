# RSP-ViTAEv2-S-E100, UPerNet, on iSAID (Wang et al., TGRS 2022).
# Reported: 64.25 mIoU of 16 classes with the background, in per cent, on the validation patches of iSAID.
# Protocol: patches of 896 px that overlap, each in windows of 512 px every 384 px; each patch and its horizontal
# flip, averaged (`--tta`).
# Training: 1 GPU x 2 images, AdamW 6e-5, 80 000 iterations, backbone from MillionAID.
_base_ = [
    '../_base_/backbones/vitaev2_s.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/rsp_isaid.py',
    '../_base_/schedules/segmentation_80k_adamw.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=16),
    auxiliary_head=dict(in_channels=_base_.backbone_channels[2], num_classes=16))
train_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=8000))
# Its tables of relative positions are used by nothing, as published.
find_unused_parameters = True
tta = dict(flips=(None, 'horizontal'))
predict = dict(window=512, overlap=128)
