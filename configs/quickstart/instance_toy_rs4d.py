# RS4D's form (arXiv 2606.25324) in small for the toy scenes: a state space encoder of six blocks, all its outputs
# aggregated, a pyramid of one scale, Mask R-CNN. From random weights; RS4D itself starts from a distilled encoder.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, COCO's mask AP: 0.21 mAP50 after 400 iterations
# of 2 scenes, still rising. No published number.
_base_ = [
    '../_base_/heads/sam_seg_mask_rcnn.py',
    '../_base_/datasets/toy_instance.py',
    '../_base_/schedules/toy_detectors.py',
    '../_base_/runtime/default.py',
]

_num_classes = 5
_blocks = 6
_proposals = dict(nms_pre=500, max_per_img=200)
model = dict(
    backbone=dict(
        type='rsfoundation.RSMamba',
        arch=dict(embed_dims=96, num_layers=_blocks, feedforward_channels=192),
        img_size=256,
        patch_size=16,
        out_type='featmap_hwc',
        out_indices=list(range(_blocks))),
    neck=dict(
        feature_aggregator=dict(
            in_channels=[96] * _blocks, hidden_channels=32, out_channels=64, select_layers=[1, 3, 5]),
        feature_spliter=dict(
            backbone_channel=64, in_channels=[16, 32, 64, 64], out_channels=64, num_outs=4)),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=_num_classes),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=_num_classes)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=_proposals,
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=_proposals))

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_dataloader = dict(batch_size=2)
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
