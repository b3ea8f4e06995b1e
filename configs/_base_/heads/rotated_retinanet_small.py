# Rotated RetinaNet with narrow layers, for CPUs and small images with small objects. Levels start at stride 4, where
# the one anchor of a place measures 16 px, and end at stride 32. A short training from random weights stalls at the
# angles, whose deltas jump where a box has two names: boxes are compared as Gaussians, which turn without a jump.
# Objects four times as long as wide never overlap a square by half: hits start lower. Everything not named here is that
# of rotated_retinanet.py.
_base_ = './rotated_retinanet.py'

model = dict(
    neck=dict(out_channels=64, start_level=0, num_outs=4),
    bbox_head=dict(
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type='GN', num_groups=16),
        anchor_generator=dict(scales_per_octave=1, ratios=[1.0], strides=[4, 8, 16, 32]),
        bbox_coder=dict(edge_swap=False),
        reg_decoded_bbox=True,
        loss_bbox=dict(_delete_=True, type='rsfoundation.SymmetricKLDLoss', loss_weight=4.0)),
    train_cfg=dict(assigner=dict(pos_iou_thr=0.3, neg_iou_thr=0.2)),
    test_cfg=dict(nms_pre=500, max_per_img=300))
