# A small Oriented R-CNN on LWGANet-L0 for the toy scenes, from random weights.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, VOC07 rule: 0.73 mAP50 (seed 0, 400
# iterations of 2 scenes, two minutes on two CPU cores).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/oriented_rcnn_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/schedules/toy_detectors.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
