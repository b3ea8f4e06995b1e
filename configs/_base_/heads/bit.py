# BIT in Open-CD's form (Chen et al., TGRS 2021) on the map of stride 8: tokens of both dates, a transformer among them,
# pixels that attend to them. A config places its backbone; the head takes the channels of one date:
#   model = dict(backbone={{_base_.backbone}}, decode_head=dict(in_channels=_base_.backbone_channels[1]))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')
# Stages behind the map that the head takes get no gradient.
find_unused_parameters = True

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
    neck=dict(type='rsfoundation.FeatureFusionNeck', policy='concat', out_indices=[1]),
    decode_head=dict(
        type='rsfoundation.BITHead',
        channels=32,
        embed_dims=64,
        enc_depth=1,
        enc_with_pos=True,
        dec_depth=8,
        num_heads=8,
        drop_rate=0.0,
        use_tokenizer=True,
        token_len=4,
        upsample_size=4,
        num_classes=2,
        out_channels=2,
        norm_cfg=dict(type='LN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
