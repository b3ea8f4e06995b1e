# SAM ViT-B into RSMamba-base at 512 px from a feature cache: whole windows without flips, for one GPU or a CPU.
#   rsf prepare features distill/sam_vit_base_rsmamba_b_512_cached -o data/features/sam_vit_base_512
#   rsf train distill/sam_vit_base_rsmamba_b_512_cached
# Protocol: relative error against the best constant map of the held-out images; nothing reported. The schedule is 10 000
# iterations of 32 images.
_base_ = 'sam_vit_base_rsmamba_b_1024.py'

_side = 512
_steps = 10000
_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='Resize', scale=(_side, _side)),
    dict(type='rsfoundation.ImageKey'),
    dict(type='rsfoundation.PackSceneInputs'),
]
model = dict(
    teacher=dict(
        _delete_=True,
        type='rsfoundation.CachedFeatures',
        root='data/features/sam_vit_base_512',
        teacher=_base_.model.teacher),
    losses=[
        dict(type='rsfoundation.MapAlignment', loss='smooth_l1', cosine=1.0, relation=0.5, boundary=0.5),
    ],
    corruption=dict(ramp=2000, fade=(8000, 9000)),
    resolutions=[])
train_dataloader = dict(batch_size=32, dataset=dict(window=_side, pipeline=_pipeline))
val_dataloader = dict(dataset=dict(window=_side, pipeline=_pipeline))
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=200, end=_steps, T_max=_steps - 200, eta_min=1e-5),
]
train_cfg = dict(max_iters=_steps, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
