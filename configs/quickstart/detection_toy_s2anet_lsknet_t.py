# A small S2ANet on LSKNet-T for the toy scenes, from random weights.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, VOC07 rule: 0.59 mAP50 (seed 0, 800
# iterations of 2 scenes, seven minutes on two CPU cores).
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/s2anet_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/schedules/toy_one_stage.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
