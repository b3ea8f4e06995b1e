# RSPrompter-anchor (arXiv 2306.16269) in small for the toy scenes: LWGANet-L0 with a pyramid whose level of stride 8 is
# the image embedding, and regions that prompt a small mask decoder of SAM. All from random weights, with masks trained
# inside the boxes of their regions (within_boxes), which the published models do not need: they start from SAM.
# Protocol: 160 training and 40 held-out scenes of 256 px at one scale, COCO's mask AP: 0.79 and 0.80 mAP50 of masks,
# 0.79 and 0.81 of boxes in two runs (seed 0, 640 iterations of 2 scenes: 548 seconds of processor time with the validation).
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/rsprompter_anchor.py',
    '../_base_/datasets/toy_instance.py',
    '../_base_/schedules/toy_detectors.py',
    '../_base_/runtime/default.py',
]

_num_classes = 5
_width = 64
_proposals = dict(nms_pre=500, max_per_img=200)
model = dict(
    backbone_freeze=False,
    embedding_level=1,
    backbone={{_base_.backbone}},
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels={{_base_.backbone_channels}},
        out_channels=_width,
        num_outs=4),
    shared_image_embedding=dict(
        hf_pretrain_name=None, init_cfg=None, extra_config=dict(scale=8, num_pos_feats=_width // 2)),
    rpn_head=dict(
        in_channels=_width,
        feat_channels=_width,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=_width),
        bbox_head=dict(in_channels=_width, fc_out_channels=256, num_classes=_num_classes),
        mask_roi_extractor=dict(out_channels=_width),
        mask_head=dict(
            in_channels=_width,
            with_sincos=False,
            within_boxes=True,
            mask_decoder=dict(
                hf_pretrain_name=None,
                init_cfg=None,
                extra_config=dict(
                    hidden_size=_width, mlp_dim=128, num_attention_heads=4, iou_head_hidden_dim=_width)))),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=_proposals,
        rcnn=dict(sampler=dict(num=48))),
    test_cfg=dict(rpn=_proposals))

train_dataloader = dict(batch_size=2)
# eight epochs: 640 iterations
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=640, T_max=610, eta_min_ratio=0.02),
]
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
