# RSP-Swin-T, Oriented R-CNN (Wang et al., TGRS 2022), HRSC2016.
# Reported: 89.91 mAP50 by the VOC07 rule on the HRSC2016 test split.
# Protocol: images within 1333 x 800 px at a single scale, trainval to train, test to test, flips and no rotation, 1
# GPU x 2 images, AdamW 1e-4 without decay of norms and position tables, dropout and stochastic depth 0.3, two stages
# frozen, 36 epochs, backbone from MillionAID.
_base_ = [
    '../_base_/backbones/rsp_swin_t.py',
    '../_base_/heads/oriented_rcnn_rsp.py',
    '../_base_/datasets/rsp_hrsc.py',
    '../_base_/schedules/3x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'drop_rate': 0.3, 'frozen_stages': 2},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=1)))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    _base_.param_scheduler[1],
]
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            absolute_pos_embed=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
            norm=dict(decay_mult=0.0))))
auto_scale_lr = dict(base_batch_size=2)
