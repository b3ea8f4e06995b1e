# 36 epochs of AdamW, a tenth of the rate after 24 and 33, a validation every three. Everything else as in 1x_adamw.py.
_base_ = './1x_adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[24, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36, val_interval=3)
