# RSPrompter's and RS4D's schedule: AdamW, 50 iterations of warm-up from a thousandth of the rate, then cosine by epoch to
# a thousandth, without clipping. A config sets the rate, and the epochs in train_cfg and in the second scheduler.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300, eta_min_ratio=0.001),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
