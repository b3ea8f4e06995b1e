# BIT as trained on RSP's backbones (Wang et al., TGRS 2022), on the map of stride 16. Images are raw RGB values, 0 to
# 255. A config places its backbone; the head takes the channels of one date:
#   model = dict(
#       backbone={**_base_.backbone, 'out_indices': (0, 1, 2)},
#       decode_head=dict(in_channels=_base_.backbone_channels[2]))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')
# Stages behind the map that the head takes get no gradient.
find_unused_parameters = True

model = dict(
    type='rsfoundation.SiamEncoderPairDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[0.0] * 6,
        std=[1.0] * 6,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    decode_head=dict(
        type='rsfoundation.RSPBITHead',
        in_index=2,
        token_len=4,
        with_pos='learned',
        enc_depth=1,
        dec_depth=8,
        num_classes=2,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
