# Strip R-CNN-S (Yuan et al., arXiv 2501.03775), HRSC2016.
# Reported: 90.60 mAP50 by the VOC07 rule, 98.70 by the VOC12 rule, on the HRSC2016 test split. The metric gives both.
# Protocol: images of 800 px at a single scale, trainval to train, test to test, 1 class, angles le90, AdamW 4e-4 for
# 16 images (8 GPUs x 2), 36 epochs, stochastic depth 0.1, backbone from ImageNet-1k.
_base_ = [
    '../_base_/backbones/stripnet_s.py',
    '../_base_/heads/strip_rcnn.py',
    '../_base_/datasets/hrsc2016.py',
    '../_base_/schedules/3x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'drop_path_rate': 0.1},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=1)),
    train_cfg=dict(
        rpn=dict(assigner=dict(gpu_assign_thr=-1)),
        rcnn=dict(assigner=dict(gpu_assign_thr=-1))))

optim_wrapper = dict(optimizer=dict(lr=4e-4))
