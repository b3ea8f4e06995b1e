# RoI Transformer (Ding et al., CVPR 2019): upright proposals, turned by a first stage, refined by a second.
# The spread of angles is that of mmrotate 0.x (1 and 0.5): weights of 0.x decode to wrong angles under the 0.1 and 0.05
# that mmrotate 1.x ships. Everything not named here is that of oriented_rcnn.py.
_base_ = './oriented_rcnn.py'

_proposals = dict(nms=dict(iou_threshold=0.7))
_head = {**_base_.model.roi_head.bbox_head}
_stage = _base_.model.train_cfg.rcnn

model = dict(
    type='mmdet.CascadeRCNN',
    rpn_head=dict(
        type='rsfoundation.RPNHead',
        bbox_coder=dict(
            _delete_=True,
            type='DeltaXYWHHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
            use_box_type=True)),
    roi_head=dict(
        _delete_=True,
        type='mmdet.CascadeRoIHead',
        num_stages=2,
        stage_loss_weights=[1, 1],
        bbox_roi_extractor=[
            dict(
                type='rsfoundation.SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32]),
            _base_.model.roi_head.bbox_roi_extractor,
        ],
        bbox_head=[
            {
                **_head,
                'bbox_coder': dict(
                    type='DeltaXYWHTHBBoxCoder',
                    angle_version='le90',
                    norm_factor=2,
                    edge_swap=True,
                    target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
                    target_stds=(0.1, 0.1, 0.2, 0.2, 1.0),
                    use_box_type=True),
            },
            {
                **_head,
                'reg_class_agnostic': False,
                'bbox_coder': {**_head['bbox_coder'], 'target_stds': (0.05, 0.05, 0.1, 0.1, 0.5)},
            },
        ]),
    train_cfg=dict(
        rpn_proposal=_proposals,
        rcnn=[
            {**_stage, 'assigner': {**_stage.assigner, 'iou_calculator': dict(type='RBbox2HBboxOverlaps2D')}},
            _stage,
        ]),
    test_cfg=dict(rpn=_proposals))
