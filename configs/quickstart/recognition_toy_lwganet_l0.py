# LWGANet-L0 and a linear head for the toy scenes, from random weights, in a few minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px seen at 96, eight classes, top-1.
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/scene.py',
    '../_base_/datasets/toy_recognition.py',
    '../_base_/runtime/default.py',
]
model = dict(backbone={{_base_.backbone}}, head=dict(num_classes=8))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=40, end=400, T_max=360, eta_min=1e-5),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=10))
predict = dict(window=256, overlap=0)
# what `rsf demo recognition` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/recognition/large/P0001.png'])
