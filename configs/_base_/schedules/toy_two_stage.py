# Eight epochs over the 160 toy scenes, two at a time: 640 iterations. After five, some starts stay just below half.
_base_ = './toy_detectors.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=640, T_max=610, eta_min_ratio=0.02),
]
train_cfg = dict(max_epochs=8, val_interval=8)
