# CLAFA (Wang et al., TGRS 2024): a pyramid of deformable convolutions per date, differences fused from coarse to fine,
# supervised by focal and dice loss at four of five places. A config places its backbone:
#   model = dict(backbone={{_base_.backbone}}, decode_head=dict(in_channels={{_base_.backbone_channels}}))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

model = dict(
    type='rsfoundation.SiamEncoderPairDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    decode_head=dict(
        type='rsfoundation.ClafaDecoder',
        fpn_channels=128,
        deform_groups=4,
        num_heads=1,
        num_points=[4, 8, 16],
        num_classes=2),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
