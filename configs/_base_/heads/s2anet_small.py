# S2ANet with narrow layers and one alignment convolution for all levels, for CPUs and small images with small
# objects. Levels start at stride 4, where anchors measure 16 px, and end at stride 32. Objects four times as long as
# wide never overlap a square by half: hits of the first stage start lower. Everything not named here is that of
# s2anet.py.
_base_ = './s2anet.py'

_strides = [4, 8, 16, 32]
_narrow = dict(in_channels=64, stacked_convs=1, feat_channels=64, norm_cfg=dict(type='GN', num_groups=16))
_refine = _base_.model.bbox_head_refine[0]
_hits = dict(assigner=dict(pos_iou_thr=0.35, neg_iou_thr=0.25))

model = dict(
    neck=dict(out_channels=64, start_level=0, num_outs=4),
    bbox_head_init=dict(**_narrow, anchor_generator=dict(strides=_strides), loss_bbox=dict(loss_weight=2.0)),
    bbox_head_refine=[
        {
            **_refine,
            **_narrow,
            'frm_cfg': dict(type='AlignConv', feat_channels=64, kernel_size=3, strides=_strides),
            'anchor_generator': dict(type='PseudoRotatedAnchorGenerator', strides=_strides),
        }
    ],
    train_cfg=dict(init=_hits),
    test_cfg=dict(nms_pre=500, max_per_img=300))
