# S2ANet (Han et al., TGRS 2021): square anchors made into oriented boxes, features aligned to them, boxes refined.
# Angles are le135. Anchors stay at angle 0 and every level has its own alignment convolution, both as in mmrotate
# 0.x: published weights fit after `rsf convert detector-0x`. Class labels follow DOTA-1.0.
default_scope = 'mmrotate'
task = dict(type='rsfoundation.OrientedDetection')

_strides = [8, 16, 32, 64, 128]
_coder = dict(
    type='DeltaXYWHTRBBoxCoder',
    angle_version='le135',
    norm_factor=1,
    edge_swap=False,
    proj_xy=True,
    target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
    target_stds=(1.0, 1.0, 1.0, 1.0, 1.0))
_losses = dict(
    loss_cls=dict(type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
    loss_bbox=dict(type='mmdet.SmoothL1Loss', beta=0.11, loss_weight=1.0))
_stage = dict(
    assigner=dict(
        type='rsfoundation.MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        min_pos_iou=1e-6,  # published as 0: an object that overlaps no anchor would then own them all
        ignore_iof_thr=-1,
        gpu_assign_thr=800,  # above 800 objects the overlaps are computed on the CPU
        iou_calculator=dict(type='RBboxOverlaps2D')),
    allowed_border=-1,
    pos_weight=-1,
    debug=False)

model = dict(
    type='RefineSingleStageDetector',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        boxtype2tensor=False),
    neck=dict(type='mmdet.FPN', out_channels=256, start_level=1, add_extra_convs='on_input', num_outs=5),
    bbox_head_init=dict(
        type='S2AHead',
        num_classes=15,
        in_channels=256,
        stacked_convs=2,
        feat_channels=256,
        anchor_generator=dict(
            type='rsfoundation.FakeRotatedAnchorGenerator',
            angle_version=None,
            scales=[4],
            ratios=[1.0],
            strides=_strides),
        bbox_coder=dict(**_coder, use_box_type=False),
        **_losses),
    bbox_head_refine=[
        dict(
            type='S2ARefineHead',
            num_classes=15,
            in_channels=256,
            stacked_convs=2,
            feat_channels=256,
            frm_cfg=dict(
                type='rsfoundation.PerLevelAlignConv', feat_channels=256, kernel_size=3, strides=_strides),
            anchor_generator=dict(type='PseudoRotatedAnchorGenerator', strides=_strides),
            bbox_coder=_coder,
            **_losses)
    ],
    train_cfg=dict(init=_stage, refine=[_stage], stage_loss_weights=[1.0]),
    test_cfg=dict(
        nms_pre=2000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms_rotated', iou_threshold=0.1),
        max_per_img=2000))
