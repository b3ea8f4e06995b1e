# STANet (Chen and Shi, Remote Sensing 2020): distances between features after attention across the dates. `sa_mode` is
# 'None' (base), 'BAM' or 'PAM'. A config places its backbone; the head takes the channels of one date:
#   model = dict(
#       backbone={{_base_.backbone}},
#       decode_head=dict(in_channels={{_base_.backbone_channels}}, sa_mode='PAM'))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

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
        type='rsfoundation.STAHead',
        in_index=[0, 1, 2, 3],
        channels=96,
        sa_in_channels=256,
        sa_ds=1,
        distance_threshold=1,
        out_channels=1,
        threshold=0.5,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='rsfoundation.BCLLoss', margin=2.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
