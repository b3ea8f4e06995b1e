# As recognition_300e.py, for 100 epochs.
_base_ = './recognition_300e.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=100, T_max=95, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=100)
