# Oriented R-CNN on LSKNet-S into one on LWGANet-L0, at one scale.
# Reported: nothing for this combination.
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), angles le90, 8 GPUs x 1
# image, AdamW 1e-4, 12 epochs, both backbones from ImageNet-1k. The teacher is trained first:
#   rsf train lsknet/lsknet_s_oriented_rcnn_1x_dota_ss
# Weights of the losses: those of the toy detectors (docs/distillation.md), not tuned on DOTA.
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/dota_ss.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))
distill = dict(
    teacher_config='lsknet/lsknet_s_oriented_rcnn_1x_dota_ss',
    teacher_checkpoint='work_dirs/lsknet_s_oriented_rcnn_1x_dota_ss',
    losses=[
        dict(type='FeatureImitation', module='neck', weight=1.0),
        dict(type='ClassImitation', module='rpn_head', weight=1.0),
        dict(type='BoxImitation', module='rpn_head', weight=1.0),
        dict(type='RegionImitation', module='roi_head', weight=1.0),
    ])

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
