# 100 000 iterations of AdamW for 32 images in all (8 GPUs x 4): warm-up of 2 %, cosine, no decay of norms, biases and
# tables.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=2000),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=2000, end=100000, T_max=98000, eta_min=1e-5),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100000, val_interval=5000)
auto_scale_lr = dict(enable=False, base_batch_size=32)
