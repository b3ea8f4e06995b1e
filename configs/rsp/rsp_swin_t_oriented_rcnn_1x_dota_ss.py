# RSP-Swin-T, Oriented R-CNN (Wang et al., TGRS 2022).
# Reported: 75.68 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule).
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), flips and no rotation, 1
# GPU x 2 images, AdamW 1e-4 without decay of norms and position tables, dropout and stochastic depth 0.3, two stages
# frozen, 12 epochs, backbone from MillionAID.
_base_ = [
    '../_base_/backbones/rsp_swin_t.py',
    '../_base_/heads/oriented_rcnn_rsp.py',
    '../_base_/datasets/rsp_dota_ss.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'drop_rate': 0.3, 'frozen_stages': 2},
    neck=dict(in_channels={{_base_.backbone_channels}}))

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
