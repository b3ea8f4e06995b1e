# Oriented R-CNN with narrow layers and few proposals, for CPUs and small images. Anchors start at 16 px and end at
# stride 32. A short training from random weights stalls at the angles: more anchors and proposals count as hits, and
# the offsets of anchors weigh three times as much. Everything not named here is that of oriented_rcnn.py.
_base_ = './oriented_rcnn.py'

_proposals = dict(nms_pre=300, max_per_img=300)
model = dict(
    neck=dict(out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
        loss_bbox=dict(loss_weight=3.0)),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256)),
    train_cfg=dict(
        rpn=dict(assigner=dict(pos_iou_thr=0.5), sampler=dict(num=128)),
        rpn_proposal=_proposals,
        rcnn=dict(
            assigner=dict(pos_iou_thr=0.4, neg_iou_thr=0.4, min_pos_iou=0.4),
            sampler=dict(num=128))),
    test_cfg=dict(rpn=_proposals, rcnn=dict(max_per_img=300)))
