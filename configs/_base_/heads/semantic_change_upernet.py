# Semantic change detection: a UPerNet of what changed on the dates' differences, and one of the land cover of either
# date, with shared weights. A config places its backbone; all heads take the channels of one date:
#   _heads = dict(in_channels={{_base_.backbone_channels}})
#   model = dict(
#       backbone={{_base_.backbone}}, decode_head=dict(binary_cd_head=_heads, semantic_cd_head=_heads))
default_scope = 'mmseg'
task = dict(type='rsfoundation.SemanticChangeDetection')

_norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='rsfoundation.SiamEncoderMultiDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    postprocess_pred_and_label='cover_semantic',
    decode_head=dict(
        type='rsfoundation.GeneralSCDHead',
        binary_cd_neck=dict(type='rsfoundation.FeatureFusionNeck', policy='abs_diff'),
        binary_cd_head=dict(
            type='UPerHead',
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2, 3, 6),
            channels=128,
            dropout_ratio=0.1,
            num_classes=2,
            out_channels=2,
            norm_cfg=_norm_cfg,
            align_corners=False,
            loss_decode=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
        semantic_cd_head=dict(
            type='UPerHead',
            in_index=[0, 1, 2, 3],
            pool_scales=(1, 2, 3, 6),
            channels=128,
            dropout_ratio=0.1,
            num_classes=6,
            out_channels=6,
            norm_cfg=_norm_cfg,
            align_corners=False,
            loss_decode=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True))),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
