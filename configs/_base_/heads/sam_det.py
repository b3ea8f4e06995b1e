# "SAM-det" (RSPrompter, arXiv 2306.16269): boxes of a Faster R-CNN (R50-FPN, from ImageNet) prompt a frozen SAM ViT-B.
# A config sets the classes: model = dict(detector=dict(roi_head=dict(bbox_head=dict(num_classes=10))))
_base_ = './mask_rcnn.py'

model = dict(
    _delete_=True,
    type='rsfoundation.SAMDet',
    data_preprocessor={{_base_.model.data_preprocessor}},
    detector=dict(
        type='FasterRCNN',
        backbone=dict(
            type='ResNet',
            depth=50,
            num_stages=4,
            out_indices=(0, 1, 2, 3),
            frozen_stages=1,
            norm_cfg=dict(type='BN', requires_grad=True),
            norm_eval=True,
            style='pytorch',
            init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
        neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
        rpn_head={{_base_.model.rpn_head}},
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor={{_base_.model.roi_head.bbox_roi_extractor}},
            bbox_head={{_base_.model.roi_head.bbox_head}}),
        train_cfg={{_base_.model.train_cfg}},
        test_cfg={{_base_.model.test_cfg}}),
    segmentor=dict(
        type='rsfoundation.RSSamModel',
        hf_pretrain_name='facebook/sam-vit-base',
        init_cfg=dict(type='Pretrained', checkpoint='sam_vit_base-sa1b')),
    test_cfg=dict(oracle_on=False))
