# A small A2Net on LWGANet-L0 for pairs of toy scenes, from random weights, in a few minutes on two CPU
# cores.
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/a2net.py',
    '../_base_/datasets/toy_change.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, mid=32)
train_dataloader = dict(batch_size=4)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', by_epoch=False, begin=20, end=960, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=8)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo change` draws and predicts
demo = dict(
    data='data/toy', inputs=['data/toy/change/large/A/large_1.png', 'data/toy/change/large/B/large_1.png'])
