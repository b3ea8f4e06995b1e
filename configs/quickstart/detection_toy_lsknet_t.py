# A small Oriented R-CNN on LSKNet-T for the toy scenes, from random weights, in about four minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, VOC07 rule: 0.55 mAP50 (seed 0, 400 iterations
# of 2 scenes). It keeps DOTA's 15 classes, so that its weights start a training on real patches.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/oriented_rcnn_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=400, T_max=370, eta_min_ratio=0.02),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=5, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo detection` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/detection/large/images/P0001.png'])
