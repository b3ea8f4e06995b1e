# LSKNet-S, Oriented R-CNN (Li et al., ICCV 2023), HRSC2016.
# Reported: 90.65 mAP50 by the VOC07 rule, 98.46 by the VOC12 rule, on the HRSC2016 test split. The metric gives both.
# Protocol: images of 800 px at a single scale, trainval to train, test to test, 1 class, angles le90, AdamW 4e-4 for
# 16 images (the config says 2 images per GPU, a comment in it 4 GPUs, the README 8 x 1), 36 epochs, backbone from
# ImageNet-1k (300 epochs).
_base_ = [
    '../_base_/backbones/lsknet_s.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/hrsc2016.py',
    '../_base_/schedules/3x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=1)),
    train_cfg=dict(
        rpn=dict(assigner=dict(gpu_assign_thr=-1)),
        rcnn=dict(assigner=dict(gpu_assign_thr=-1))))

optim_wrapper = dict(optimizer=dict(lr=4e-4))
