# Ten epochs over the 160 toy scenes, two at a time: 800 iterations. One-stage heads learn angles more slowly.
_base_ = './toy_detectors.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=800, T_max=770, eta_min_ratio=0.02),
]
train_cfg = dict(max_epochs=10, val_interval=10)
