# A small Oriented R-CNN on LSKNet-T for the toy scenes, from random weights, in about four minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, VOC07 rule: 0.76 mAP50 (seed 0, 640
# iterations of 2 scenes). It keeps DOTA's 15 classes, so that its weights start a training on real patches.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/oriented_rcnn_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/schedules/toy_two_stage.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo detection` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/detection/large/images/P0001.png'])
