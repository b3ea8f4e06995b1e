# Ten epochs over the 160 toy scenes, two at a time: 800 iterations. One-stage heads learn angles more slowly.
# The blocks of LSKNet start at a hundredth of their effect; their layer scales learn ten times as fast as the rest, or
# a training this short hardly uses them.
_base_ = './toy_detectors.py'

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(layer_scale=dict(lr_mult=10.0, decay_mult=0.0))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=800, T_max=770, eta_min_ratio=0.02),
]
train_cfg = dict(max_epochs=10, val_interval=10)
