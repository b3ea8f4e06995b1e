# Siamese UPerNet: one backbone on both dates, their pyramids set side by side level by level, a UPerNet on top.
# Layout and settings are Open-CD's siam_upernet (128 channels, FCN of 64 channels on the third level, weight 0.4).
# A config places its backbone; the heads see both dates, that is twice its channels:
#   model = dict(
#       backbone={{_base_.backbone}},
#       decode_head=dict(in_channels=[2 * c for c in _base_.backbone_channels]),
#       auxiliary_head=dict(in_channels=2 * _base_.backbone_channels[2]))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

_norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='rsfoundation.SiamEncoderDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    neck=dict(type='rsfoundation.FeatureFusionNeck', policy='concat'),
    decode_head=dict(
        type='UPerHead',
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=128,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=_norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True)),
    auxiliary_head=dict(
        type='FCNHead',
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=2,
        norm_cfg=_norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4, avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
