# A small UPerNet on LSKNet-T into UNetFormer on LWGANet-L0, from random weights, on the toy scenes.
#   rsf prepare toy data/toy
#   rsf train segmentation_toy_lsknet_t        # the teacher
#   rsf train distill/toy_segmentation_lwganet_l0
# Protocol: 160 training and 40 held-out scenes of 256 px, ISPRS's six classes, mIoU over all six, 160 iterations of 4
# crops of 128 px: 0.659 (mean of seeds 0 to 2, deviation 0.003). The same training without a teacher
# (--cfg-options distill=None): 0.635 (0.032).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/unetformer.py',
    '../_base_/datasets/toy_segmentation.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, dropout_ratio=0.0),
    test_cfg=dict(crop_size=(256, 256), stride=(192, 192)))
# The heads differ, so their maps do: pixels and the shape of each class are compared, not features.
distill = dict(
    teacher_config='quickstart/segmentation_toy_lsknet_t',
    teacher_checkpoint='work_dirs/segmentation_toy_lsknet_t',
    losses=[
        dict(type='PixelImitation', module='decode_head.conv_seg', weight=1.0),
        dict(type='FeatureImitation', module='decode_head.conv_seg', loss='channel', weight=0.5),
    ])

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', by_epoch=False, begin=40, end=160, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
