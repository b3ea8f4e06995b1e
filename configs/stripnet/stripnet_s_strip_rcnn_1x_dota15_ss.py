# Strip R-CNN-S (Yuan et al., arXiv 2501.03775), DOTA-1.5.
# Reported: nothing in the repository, which ships the settings.
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), 16 classes, angles le90, 8
# GPUs x 1 image, AdamW 1e-4, 12 epochs, stochastic depth 0.15, backbone from ImageNet-1k.
# The scale is our reading: for three scales, take dota15_ms.py instead.
_base_ = [
    '../_base_/backbones/stripnet_s.py',
    '../_base_/heads/strip_rcnn.py',
    '../_base_/datasets/dota15_ss.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=16)))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
