# UPerNet (Xiao et al., ECCV 2018) with the settings of the RSP transfers (arXiv 2204.02825): 512 channels, pools 1/2/3/6,
# an FCN on the third level that is trained along and left out at test. Sliding windows of 512 px, stride 384, at test.
# A config places its backbone:
#   model = dict(
#       backbone={{_base_.backbone}},
#       decode_head=dict(in_channels={{_base_.backbone_channels}}),
#       auxiliary_head=dict(in_channels=_base_.backbone_channels[2]))
default_scope = 'mmseg'
task = dict(type='rsfoundation.SemanticSegmentation')

_norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='rsfoundation.EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    decode_head=dict(
        type='rsfoundation.UPerHead',
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=6,
        norm_cfg=_norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True)),
    auxiliary_head=dict(
        type='FCNHead',
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=6,
        norm_cfg=_norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4, avg_non_ignore=True)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(384, 384)))
