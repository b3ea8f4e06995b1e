# 30 epochs of AdamW, a tenth of the rate after 16, 22 and 27, a validation every epoch: LWGANet's published detectors
# are the best by validation. Everything else as in 1x_adamw.py.
_base_ = './1x_adamw.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=30, milestones=[16, 22, 27], gamma=0.1),
]
train_cfg = dict(max_epochs=30, val_interval=1)
