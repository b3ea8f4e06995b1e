# "SAM-seg (Mask2Former)" (RSPrompter, arXiv 2306.16269): Mask2Former on the block outputs of a plain encoder. A config
# places encoder and aggregator as for sam_seg_mask_rcnn.py, and its classes:
#   model = dict(
#       panoptic_head=dict(num_things_classes=10, loss_cls=dict(class_weight=[1.0] * 10 + [0.1])),
#       panoptic_fusion_head=dict(num_things_classes=10))
default_scope = 'mmdet'
task = dict(type='rsfoundation.InstanceSegmentation')

_width = 128
_attention = dict(embed_dims=_width, num_heads=8, dropout=0.0, batch_first=True)
_positions = dict(num_feats=_width // 2, normalize=True)
_ffn = dict(embed_dims=_width, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type='ReLU', inplace=True))

model = dict(
    type='rsfoundation.SAMSegMask2Former',
    backbone_freeze=False,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32),
    neck=dict(
        type='rsfoundation.RSFPN',
        feature_aggregator=dict(type='rsfoundation.RSFeatureAggregator', hidden_channels=32, out_channels=256),
        feature_spliter=dict(
            type='rsfoundation.RSSimpleFPN',
            backbone_channel=256,
            in_channels=[64, 128, 256, 256],
            out_channels=256,
            num_outs=5,
            norm_cfg=dict(type='rsfoundation.LN2d', requires_grad=True))),
    panoptic_head=dict(
        type='Mask2FormerHead',
        in_channels=[256] * 5,
        strides=[4, 8, 16, 32, 64],
        feat_channels=_width,
        out_channels=256,
        num_things_classes=10,
        num_stuff_classes=0,
        num_queries=100,
        num_transformer_feat_level=3,
        pixel_decoder=dict(
            type='MSDeformAttnPixelDecoder',
            num_outs=3,
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(
                    self_attn_cfg=dict(
                        embed_dims=_width, num_heads=8, num_levels=3, num_points=4, dropout=0.0, batch_first=True),
                    ffn_cfg=dict(**_ffn, feedforward_channels=512))),
            positional_encoding=_positions),
        enforce_decoder_input_project=False,
        positional_encoding=_positions,
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=6,
            layer_cfg=dict(
                self_attn_cfg=_attention,
                cross_attn_cfg=_attention,
                ffn_cfg=dict(**_ffn, feedforward_channels=512)),
            init_cfg=None),
        loss_cls=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * 10 + [0.1]),
        loss_mask=dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=5.0)),
    panoptic_fusion_head=dict(
        type='rsfoundation.RSMaskFormerFusionHead',
        num_things_classes=10,
        num_stuff_classes=0,
        loss_panoptic=None,
        init_cfg=None),
    train_cfg=dict(
        num_points=12544,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=2.0),
                dict(type='CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='DiceCost', weight=5.0, pred_act=True, eps=1.0),
            ]),
        sampler=dict(type='MaskPseudoSampler')),
    test_cfg=dict(
        panoptic_on=False, semantic_on=False, instance_on=True, max_per_image=100, iou_thr=0.8, filter_low_score=True))
