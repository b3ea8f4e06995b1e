# UNetFormer's decoder (Wang et al., 10.1016/j.isprsjprs.2022.06.008) with the settings of LSKNet and LWGANet: 64
# channels, soft cross-entropy plus dice, and 0.4 times the soft cross-entropy of an auxiliary prediction that is trained
# along and not run at test. Patches of 1024 px without overlap at test.
# A config places its backbone:
#   model = dict(
#       backbone={{_base_.backbone}},
#       decode_head=dict(in_channels={{_base_.backbone_channels}}))
default_scope = 'mmseg'
task = dict(type='rsfoundation.SemanticSegmentation')

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
        type='rsfoundation.UNetFormerHead',
        channels=64,
        num_heads=8,
        dropout_ratio=0.1,
        num_classes=6,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=[
            dict(type='rsfoundation.SoftCrossEntropyLoss', smoothing=0.05),
            dict(type='rsfoundation.BatchClassDiceLoss', smooth=0.05),
        ],
        loss_auxiliary=dict(type='rsfoundation.SoftCrossEntropyLoss', smoothing=0.05, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(1024, 1024), stride=(1024, 1024)))
