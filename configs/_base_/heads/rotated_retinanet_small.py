# Rotated RetinaNet with narrow layers, for CPUs and small images with small objects. Levels start at stride 4, where
# anchors measure 16 px, and end at stride 32. Objects four times as long as wide never overlap an upright anchor by
# half: hits start lower. Everything not named here is that of rotated_retinanet.py.
_base_ = './rotated_retinanet.py'

model = dict(
    neck=dict(out_channels=64, start_level=0, num_outs=4),
    bbox_head=dict(
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type='GN', num_groups=16),
        anchor_generator=dict(scales_per_octave=1, strides=[4, 8, 16, 32]),
        loss_bbox=dict(loss_weight=2.0)),
    train_cfg=dict(assigner=dict(pos_iou_thr=0.4, neg_iou_thr=0.3)),
    test_cfg=dict(nms_pre=500, max_per_img=300))
