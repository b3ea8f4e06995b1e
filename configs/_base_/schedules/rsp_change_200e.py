# RSP's change detection: 200 epochs of AdamW, linearly to zero. The rate is that of batch 8. With a ResNet the
# optimiser is SGD: the config says so.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01))
param_scheduler = [
    dict(type='PolyLR', power=1.0, by_epoch=True, begin=0, end=200, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
