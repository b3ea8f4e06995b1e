# A tiny SAM encoder of seeded random weights into one of a single block: 400 toy scenes, crops of 128 px, two CPU cores.
#   rsf prepare toy data/toy --task detection --train 400
# Protocol: 40 held-out scenes, relative error against the best constant map of these scenes: 0.16 after 400 iterations (62
# seconds of processor time, one run), 0.13 with model.corruption=None.
_base_ = './toy_sam_rsmamba.py'

_steps = 400
model = dict(
    backbone=dict(
        _delete_=True,
        type='rsfoundation.SAMViT',
        hidden_size=48,
        output_channels=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        global_attn_indexes=(0, ),
        mlp_dim=96,
        image_size=128,
        window_size=4),
    corruption=dict(ramp=40, fade=(200, 300)))

optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=25, end=_steps, T_max=_steps - 25, eta_min=1e-5),
]
train_cfg = dict(max_epochs=16, val_interval=8)
default_hooks = dict(checkpoint=dict(interval=8))
