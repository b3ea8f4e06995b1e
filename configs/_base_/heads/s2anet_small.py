# S2ANet with narrow layers and one alignment convolution for all levels, for CPUs and small images with small
# objects. Levels start at stride 4, where anchors measure 16 px, and end at stride 32. A short training from random
# weights stalls at the angles, whose deltas jump where a box has two names: both stages compare boxes as Gaussians,
# which turn without a jump. Objects four times as long as wide never overlap a square by half: hits start lower.
# Angles are le90. Everything not named here is that of s2anet.py.
_base_ = './s2anet.py'

_strides = [4, 8, 16, 32]
_coder = dict(angle_version='le90', norm_factor=None)
_narrow = dict(
    in_channels=64,
    stacked_convs=2,
    feat_channels=64,
    norm_cfg=dict(type='GN', num_groups=16),
    reg_decoded_bbox=True)
_loss = dict(type='rsfoundation.SymmetricKLDLoss', loss_weight=4.0)
_published = _base_.model.bbox_head_refine[0]
_refine = dict(
    _base_.model.train_cfg.refine[0],
    assigner=dict(_base_.model.train_cfg.refine[0].assigner, pos_iou_thr=0.35, neg_iou_thr=0.25))

model = dict(
    neck=dict(out_channels=64, start_level=0, num_outs=4),
    bbox_head_init=dict(
        **_narrow,
        anchor_generator=dict(strides=_strides),
        bbox_coder=_coder,
        loss_bbox=dict(_delete_=True, **_loss)),
    bbox_head_refine=[
        {
            **_published,
            **_narrow,
            'frm_cfg': dict(type='AlignConv', feat_channels=64, kernel_size=3, strides=_strides),
            'anchor_generator': dict(type='PseudoRotatedAnchorGenerator', strides=_strides),
            'bbox_coder': {**_published['bbox_coder'], **_coder},
            'loss_bbox': _loss,
        }
    ],
    train_cfg=dict(init=dict(assigner=dict(pos_iou_thr=0.3, neg_iou_thr=0.2)), refine=[_refine]),
    test_cfg=dict(nms_pre=500, max_per_img=300))
