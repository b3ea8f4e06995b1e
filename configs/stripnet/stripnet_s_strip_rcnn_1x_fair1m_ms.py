# Strip R-CNN-S (Yuan et al., arXiv 2501.03775), FAIR1M-1.0.
# Reported: 48.26 mAP50 on the FAIR1M-1.0 test split (server figure).
# Protocol: multi-scale training on train and multi-scale test (rates 0.5/1/1.5, gap 500), 37 classes, angles le90, 8
# GPUs x 1 image, AdamW 1e-4, 12 epochs, stochastic depth 0.1, backbone from ImageNet-1k.
_base_ = [
    '../_base_/backbones/stripnet_s.py',
    '../_base_/heads/strip_rcnn.py',
    '../_base_/datasets/fair1m_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'drop_path_rate': 0.1},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=37)))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
