# LWGANet-L2, Oriented R-CNN (Lu et al., arXiv 2501.10040).
# Reported: 79.02 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule); the README of its
# authors' detection folder says 78.64.
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), angles le90, 4 GPUs x 2
# images, AdamW 2e-4, 30 epochs, best by validation, backbone from ImageNet-1k (300 epochs).
_base_ = [
    '../_base_/backbones/lwganet_l2.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/dota_ss.py',
    '../_base_/schedules/30e_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

auto_scale_lr = dict(base_batch_size=8)
