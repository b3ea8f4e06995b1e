# R3Det (Yang et al., AAAI 2021): a rotated RetinaNet and two refinements, each on features moved to the boxes so far.
# Angles are oc, in the range of mmrotate 0.x; anchors stay at angle 0: published weights fit after
# `rsf convert detector-0x`. Everything not named here is that of s2anet.py.
_base_ = './s2anet.py'

_strides = [8, 16, 32, 64, 128]
_coder = dict(
    type='rsfoundation.OpenCVAngleCoder',
    target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
    target_stds=(1.0, 1.0, 1.0, 1.0, 1.0))
_head = dict(
    num_classes=15,
    in_channels=256,
    stacked_convs=4,
    feat_channels=256,
    loss_cls=_base_.model.bbox_head_init.loss_cls,
    loss_bbox=_base_.model.bbox_head_init.loss_bbox)
_refine = dict(
    **_head,
    type='R3RefineHead',
    frm_cfg=dict(type='FRM', feat_channels=256, strides=_strides),
    anchor_generator=dict(type='PseudoRotatedAnchorGenerator', strides=_strides))
_stage = _base_.model.train_cfg.init

model = dict(
    bbox_head_init=dict(
        **_head,
        _delete_=True,
        type='R3Head',
        anchor_generator=dict(
            type='rsfoundation.FakeRotatedAnchorGenerator',
            angle_version=None,
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[1.0, 0.5, 2.0],
            strides=_strides),
        bbox_coder=dict(**_coder, use_box_type=False)),
    bbox_head_refine=[
        dict(**_refine, bbox_coder=dict(**_coder, use_box_type=False)),
        dict(**_refine, bbox_coder=_coder),
    ],
    train_cfg=dict(
        refine=[
            {**_stage, 'assigner': {**_stage.assigner, 'pos_iou_thr': 0.6, 'neg_iou_thr': 0.5}},
            {**_stage, 'assigner': {**_stage.assigner, 'pos_iou_thr': 0.7, 'neg_iou_thr': 0.6}},
        ],
        stage_loss_weights=[1.0, 1.0]))
