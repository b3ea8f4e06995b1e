# SAM ViT-B into LWGANet-L0, all of whose stages are brought to the teacher's cells, with the teacher running: random crops
# and flips of windows of 512 px. The student has 1.3 M parameters, the teacher 90 M.
#   rsf train distill/sam_vit_base_lwganet_l0_512 --amp
#   rsf convert backbone work_dirs/sam_vit_base_lwganet_l0_512 lwganet_l0_sam.pth
# Reported: nothing public to compare with; the recipe is ours.
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/feature_distillation.py',
    '../_base_/datasets/unlabelled_distillation.py',
    '../_base_/schedules/distillation_100k.py',
    '../_base_/runtime/default.py',
]

_side = 512
_backbone = _base_.backbone
_backbone.update(out_indices=(0, 1, 2, 3), output_norm=True)  # as detectors use it
model = dict(
    teacher=dict(
        type='rsfoundation.SAMViT',
        arch='base',
        init_cfg=dict(type='Pretrained', checkpoint='sam_vit_base-sa1b')),
    backbone=_backbone,
    adapter='stages',
    losses=[dict(type='rsfoundation.MapAlignment', loss='smooth_l1', cosine=1.0, relation=0.5, boundary=0.5)],
    corruption=dict(ramp=20000, fade=(80000, 90000)))
train_dataloader = dict(
    dataset=dict(
        window=_side,
        pipeline=[
            dict(type='rsfoundation.LoadImageFromFile'),
            dict(type='rsfoundation.RandomResizedCrop', size=_side, scale=(0.3, 1.0)),
            dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
            dict(type='rsfoundation.PackSceneInputs'),
        ]))
val_dataloader = dict(
    dataset=dict(
        window=_side,
        pipeline=[
            dict(type='rsfoundation.LoadImageFromFile'),
            dict(type='Resize', scale=(_side, _side)),
            dict(type='rsfoundation.PackSceneInputs'),
        ]))
test_dataloader = val_dataloader

# checkpoint and validation use averaged weights
custom_hooks = [
    dict(type='rsfoundation.TargetStatisticsHook', images=1024),
    dict(type='EMAHook', momentum=0.0002, priority=49),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, rule='less'))
log_processor = dict(by_epoch=False)
