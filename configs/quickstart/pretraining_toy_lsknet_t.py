# SimMIM on LSKNet-T: 400 toy scenes without labels, in a few minutes on two CPU cores.
#   rsf prepare toy data/toy --task detection --train 400
# A detector starts from it by one line: model.backbone.init_cfg=dict(type='Pretrained', checkpoint='work_dirs/...').
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/masked_image.py',
    '../_base_/datasets/toy_unlabelled.py',
    '../_base_/runtime/default.py',
]
model = dict(type='rsfoundation.SimMIM', backbone={{_base_.backbone}})
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
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5, save_best=None))
