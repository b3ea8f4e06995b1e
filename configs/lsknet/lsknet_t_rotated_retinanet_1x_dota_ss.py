# LSKNet-T, rotated RetinaNet.
# Reported: nothing: a starting point, the schedule is that of the other detectors here.
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), angles le90, AdamW 2e-4 for
# 16 images, 12 epochs, backbone from ImageNet-1k (300 epochs).
_base_ = [
    '../_base_/backbones/lsknet_t.py',
    '../_base_/heads/rotated_retinanet.py',
    '../_base_/datasets/dota_ss.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))
