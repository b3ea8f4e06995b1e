# LWGANet-L2, Oriented R-CNN (Lu et al., arXiv 2501.10040), DOTA-1.5.
# Reported: 72.91 mAP50 on the DOTA-1.5 test split (server figure, 16 classes, VOC07 rule); an older README of its
# authors says 71.72.
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), angles le90, 4 GPUs x 2
# images, AdamW 2e-4, 30 epochs, best by validation, backbone from ImageNet-1k (300 epochs).
_base_ = [
    '../_base_/backbones/lwganet_l2.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/dota15_ss.py',
    '../_base_/schedules/30e_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=16)))

auto_scale_lr = dict(base_batch_size=8)
