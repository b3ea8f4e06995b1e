# Strip R-CNN-T (Yuan et al., arXiv 2501.03775).
# Reported: 81.40 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule).
# Protocol: multi-scale training on train + val and multi-scale test (rates 0.5/1/1.5, gap 500), angles le90, 8 GPUs x
# 1 image, AdamW 1e-4, 12 epochs, stochastic depth 0.15, backbone from ImageNet-1k.
_base_ = [
    '../_base_/backbones/stripnet_t.py',
    '../_base_/heads/strip_rcnn.py',
    '../_base_/datasets/dota_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
