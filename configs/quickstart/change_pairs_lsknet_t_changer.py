# The network of change_toy_lsknet_t_changer.py on one's own pairs (`rsf prepare change`), best from its toy checkpoint
# or another of the same network:
#   rsf train change_pairs_lsknet_t_changer --cfg-options load_from=work_dirs/change_toy_lsknet_t_changer
# Protocol: the changed class over all pixels of the held out windows in one confusion matrix.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/changer.py',
    '../_base_/datasets/change_pairs.py',
    '../_base_/runtime/iterations.py',
]

# Few pixels change: a weighted loss sees all of them from the first step on.
model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(
        in_channels={{_base_.backbone_channels}},
        dropout_ratio=0.0,
        sampler=None,
        loss_decode=dict(class_weight=[1.0, 4.0])))  # averages over labelled pixels as it is

train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomCrop', crop_size=(128, 128), cat_max_ratio=0.95),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.MultiImgRandomRotFlip', rotate_prob=0.0, flip_prob=0.5),
    dict(type='rsfoundation.MultiImgExchangeTime', prob=0.5),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', by_epoch=False, begin=20, end=600, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600, val_interval=150)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=150))
predict = dict(window=256, overlap=64)
