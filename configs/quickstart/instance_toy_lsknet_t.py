# A small Mask R-CNN on LSKNet-T for the toy scenes, from random weights, in a few minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, COCO's mask AP: 0.52 mAP50
# (seed 0, 400 iterations of 2 scenes).
# Differs from the published detector in size only (channels, proposals, samples, two mask convolutions) and in smaller
# anchors: toy vehicles are 10 px wide.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/mask_rcnn.py',
    '../_base_/datasets/toy_instance.py',
    '../_base_/schedules/toy_detectors.py',
    '../_base_/runtime/default.py',
]

_num_classes = 5
_proposals = dict(nms_pre=500, max_per_img=200)
model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}, out_channels=64, num_outs=4),
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

train_dataloader = dict(batch_size=2)
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo instance` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/instance/large/P0001.png'])
