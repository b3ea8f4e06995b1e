# 45 epochs in two cosines of 15 and 30 epochs, as UNetFormer trains on Potsdam: AdamW within Lookahead, no weight
# decay on biases. The rate is that of batch 8.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='rsfoundation.Lookahead', base='AdamW', lr=0.0008, weight_decay=0.01, k=5, alpha=0.5),
    paramwise_cfg=dict(bias_decay_mult=0.0))
param_scheduler = [
    dict(
        type='CosineRestartLR',
        periods=[15, 30],
        restart_weights=[1, 1],
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end=45),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=45, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
