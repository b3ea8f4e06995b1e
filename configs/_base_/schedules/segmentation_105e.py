# 105 epochs in three cosines of 15, 30 and 60 epochs, as UNetFormer trains on Vaihingen: AdamW within Lookahead, no
# weight decay on biases. The rate is that of batch 8.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='rsfoundation.Lookahead', base='AdamW', lr=0.0004, weight_decay=0.01, k=5, alpha=0.5),
    paramwise_cfg=dict(bias_decay_mult=0.0))
param_scheduler = [
    dict(
        type='CosineRestartLR',
        periods=[15, 30, 60],
        restart_weights=[1, 1, 1],
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=105),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=105, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
