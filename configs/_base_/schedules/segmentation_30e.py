# 30 epochs in one cosine, as UNetFormer trains on LoveDA: AdamW within Lookahead, no weight decay on biases. The rate
# is that of batch 16.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='rsfoundation.Lookahead', base='AdamW', lr=0.0004, weight_decay=0.01, k=5, alpha=0.5),
    paramwise_cfg=dict(bias_decay_mult=0.0))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=30, eta_min=1e-6, by_epoch=True, begin=0, end=30),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
