# A small Oriented R-CNN on LSKNet-T into one on LWGANet-L0, from random weights, on the toy scenes.
#   rsf prepare toy data/toy
#   rsf train detection_toy_lsknet_t        # the teacher
#   rsf train distill/toy_detection_lwganet_l0
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, VOC07 rule, 240 iterations of 2 scenes:
# 0.611 mAP50 (mean of seeds 0 to 2, deviation 0.007). The same training without a teacher (--cfg-options distill=None):
# 0.501 (0.089).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/oriented_rcnn_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/schedules/toy_detectors.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))
distill = dict(
    teacher_config='quickstart/detection_toy_lsknet_t',
    teacher_checkpoint='work_dirs/detection_toy_lsknet_t',
    losses=[
        dict(type='FeatureImitation', module='neck', weight=1.0),
        dict(type='ClassImitation', module='rpn_head', weight=1.0),
        dict(type='BoxImitation', module='rpn_head', weight=1.0),
        dict(type='RegionImitation', module='roi_head', weight=1.0),
    ])

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=240, T_max=210, eta_min_ratio=0.02),
]
train_cfg = dict(max_epochs=3, val_interval=3)
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
