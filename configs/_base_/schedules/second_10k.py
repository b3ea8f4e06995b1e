# Open-CD's semantic change detection on SECOND: 10 000 iterations of AdamW, heads at ten times the rate, polynomial
# decay of power 0.9. The rate is that of batch 8.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))))
param_scheduler = [
    dict(type='PolyLR', power=0.9, by_epoch=False, begin=0, end=10000, eta_min=1e-5),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=10000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
