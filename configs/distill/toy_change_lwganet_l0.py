# A small Changer on LSKNet-T into one on LWGANet-L0, from random weights, on pairs of toy scenes.
#   rsf prepare toy data/toy
#   rsf train change_toy_lsknet_t_changer        # the teacher
#   rsf train distill/toy_change_lwganet_l0
# Protocol: 160 training and 40 held-out pairs of 256 px, metrics of the changed class over all held-out pixels, 320
# iterations of 4 crops: 0.823 F1 (mean of seeds 0 to 2, deviation 0.008). The same training without a teacher
# (--cfg-options distill=None): 0.535 (0.131).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/changer.py',
    '../_base_/datasets/toy_change.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(
        in_channels={{_base_.backbone_channels}},
        dropout_ratio=0.0,
        sampler=None,
        loss_decode=dict(class_weight=[1.0, 4.0])))
distill = dict(
    teacher_config='quickstart/change_toy_lsknet_t_changer',
    teacher_checkpoint='work_dirs/change_toy_lsknet_t_changer',
    losses=[
        dict(type='PixelImitation', module='decode_head.conv_seg', weight=1.0),
        dict(type='FeatureImitation', module='decode_head.conv_seg', part='input', weight=1.0),
    ])
train_dataloader = dict(batch_size=4)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', by_epoch=False, begin=20, end=320, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=8)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
