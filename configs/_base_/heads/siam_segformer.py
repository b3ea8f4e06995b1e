# The MLP decoder of SegFormer on both dates' maps (Open-CD's "ChangeFormer"; the paper has a decoder of its own). A
# config places its backbone; the head takes the channels of both dates:
#   model = dict(
#       backbone={{_base_.backbone}},
#       decode_head=dict(in_channels=[2 * c for c in _base_.backbone_channels]))
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
        type='SegformerHead',
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
