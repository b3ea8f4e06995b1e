# 500 iterations of AdamW for 400 unlabelled toy scenes; biases and norms do not decay. There is no validation.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=500, T_max=450, eta_min=1e-5),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=20)
