# Rotated RTMDet (Lyu et al., arXiv 2212.07784) as in mmrotate, angles le90, with the width of its `l` edition.
# Everything not named here is that of rotated_retinanet.py.
_base_ = './rotated_retinanet.py'

model = dict(
    type='mmdet.RTMDet',
    neck=dict(
        _delete_=True,
        type='rsfoundation.CSPNeXtPAFPN',
        start_level=1,  # as upstream, whose backbone gives strides 8 to 32 alone
        out_channels=256,
        num_csp_blocks=3,
        expand_ratio=0.5,
        norm_cfg=dict(type='SyncBN'),
        act_cfg=dict(type='SiLU')),
    bbox_head=dict(
        _delete_=True,
        type='RotatedRTMDetSepBNHead',
        num_classes=15,
        in_channels=256,
        stacked_convs=2,
        feat_channels=256,
        angle_version='le90',
        anchor_generator=dict(type='rsfoundation.MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistanceAnglePointCoder', angle_version='le90'),
        loss_cls=dict(type='mmdet.QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='RotatedIoULoss', mode='linear', loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=True,
        share_conv=True,
        pred_kernel_size=1,
        use_hbbox_loss=False,
        scale_angle=False,
        loss_angle=None,
        norm_cfg=dict(type='SyncBN'),
        act_cfg=dict(type='SiLU')),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(
            type='mmdet.DynamicSoftLabelAssigner', iou_calculator=dict(type='RBboxOverlaps2D'), topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False))
