# SAM ViT-B (arXiv 2304.02643) into RSMamba-base, the encoder of RS4D (arXiv 2606.25324), with the teacher running.
# The first half trains at 512 px on the map and on four inner blocks; the second half at 1024 px, where SAM's frozen mask
# decoder has to draw the same masks from both maps, and ends without noise. Boxes of labels are the prompts where the
# data set has labels.
#   rsf train distill/sam_vit_base_rsmamba_b_1024 --amp
#   rsf convert backbone work_dirs/sam_vit_base_rsmamba_b_1024 rsmamba_b_sam.pth
# A detector takes it by model.backbone.init_cfg=dict(type='Pretrained', checkpoint='rsmamba_b_sam.pth').
# Reported: nothing public to compare with; the recipe is ours, and it was not run to its end.
_base_ = [
    '../_base_/heads/feature_distillation.py',
    '../_base_/datasets/unlabelled_distillation.py',
    '../_base_/schedules/distillation_100k.py',
    '../_base_/runtime/default.py',
]

_sam = 'sam_vit_base-sa1b'
_half = 50000
model = dict(
    teacher=dict(
        type='rsfoundation.SAMViT', arch='base', init_cfg=dict(type='Pretrained', checkpoint=_sam)),
    backbone=dict(type='rsfoundation.RSMamba', arch='b', out_type='featmap'),
    losses=[
        dict(type='rsfoundation.MapAlignment', loss='smooth_l1', cosine=1.0, relation=0.5, boundary=0.5),
        dict(
            type='rsfoundation.LevelAlignment',
            pairs=[(5, 2), (11, 5), (17, 8), (23, 11)],
            student_channels=256,
            teacher_channels=768,
            weight=0.25,
            decay_steps=_half),
        dict(type='rsfoundation.PromptAlignment', checkpoint=_sam, prompts=8, weight=1.0, start=_half),
    ],
    corruption=dict(ramp=20000, fade=(80000, 90000)),
    resolutions=[(0, 512), (_half, 1024)])

# checkpoint and validation use averaged weights
custom_hooks = [
    dict(type='rsfoundation.TargetStatisticsHook', images=1024),
    dict(type='EMAHook', momentum=0.0002, priority=49),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, rule='less'))
log_processor = dict(by_epoch=False)
