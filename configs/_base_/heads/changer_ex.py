# Changer with exchange between the stages (Fang et al., TGRS 2023, "ChangerEx"): columns after stage 2, channels after
# stages 3 and 4. The backbone is any of this package with strides 4 to 32, and keeps its pretrained weights. A config
# places it:
#   model = dict(
#       backbone=dict(backbone={{_base_.backbone}}),
#       decode_head=dict(in_channels={{_base_.backbone_channels}}))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

model = dict(
    type='rsfoundation.DIEncoderDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='rsfoundation.InteractionBackbone',
        interaction_cfg=[
            None,
            dict(type='rsfoundation.SpatialExchange', p=1 / 2),
            dict(type='rsfoundation.ChannelExchange', p=1 / 2),
            dict(type='rsfoundation.ChannelExchange', p=1 / 2),
        ]),
    decode_head=dict(
        type='rsfoundation.Changer',
        in_index=[0, 1, 2, 3],
        channels=128,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        sampler=dict(type='OHEMPixelSampler', thresh=0.7, min_kept=100000),
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
