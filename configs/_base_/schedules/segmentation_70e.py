# 70 epochs in one cosine, as UNetFormer trains on UAVid (LWGANet): AdamW within Lookahead, no weight decay on biases.
# The rate is that of batch 6.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='rsfoundation.Lookahead', base='AdamW', lr=0.001, weight_decay=0.01, k=5, alpha=0.5),
    paramwise_cfg=dict(bias_decay_mult=0.0))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=70, eta_min=0.0, by_epoch=True, begin=0, end=70),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=70, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=6)
