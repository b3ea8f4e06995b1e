# A tiny SAM encoder of seeded random weights into a tiny RSMamba: 400 toy scenes, crops of 128 px, two CPU cores.
#   rsf prepare toy data/toy --task detection --train 400
# Protocol: 40 held-out scenes, relative error against the best constant map of these scenes: 0.64 after 1500 iterations
# (with 160 scenes, 287 s).
_base_ = [
    '../_base_/heads/feature_distillation.py',
    '../_base_/datasets/toy_distillation.py',
    '../_base_/runtime/default.py',
]

_channels = 32
model = dict(
    teacher=dict(
        type='rsfoundation.SAMViT',
        hidden_size=64,
        output_channels=_channels,
        num_hidden_layers=4,
        num_attention_heads=4,
        global_attn_indexes=(1, 3),
        mlp_dim=128,
        image_size=128,
        window_size=4),
    backbone=dict(
        type='rsfoundation.RSMamba',
        arch=dict(embed_dims=_channels, num_layers=4, feedforward_channels=64),
        img_size=128,
        out_type='featmap'),
    corruption=dict(ramp=100, patience=100))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=25, end=1500, T_max=1475, eta_min=1e-5),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=60, val_interval=10)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=10, rule='less'))
