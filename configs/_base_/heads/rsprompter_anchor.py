# RSPrompter-anchor (arXiv 2306.16269) and "RS4D-prompt" (arXiv 2606.25324): regions of interest prompt SAM's mask
# decoder. Settings of the published configs, with the 1024 px input and SAM ViT-B's decoder; RS4D leaves out the sine
# of the prompts (with_sincos). A config places encoder and neck as for sam_seg_mask_rcnn.py, and its classes:
#   model = dict(
#       backbone={{_base_.backbone}},
#       neck=dict(feature_aggregator=dict(in_channels='rsmamba_base', select_layers=range(2, 24, 2))),
#       roi_head=dict(bbox_head=dict(num_classes=10)))
_base_ = './sam_seg_mask_rcnn.py'

_sam = dict(type='Pretrained', checkpoint='sam_vit_base-sa1b')
model = dict(
    type='rsfoundation.RSPrompterAnchor',
    backbone_freeze=True,
    decoder_freeze=False,
    shared_image_embedding=dict(
        type='rsfoundation.RSSamPositionalEmbedding', hf_pretrain_name='facebook/sam-vit-base', init_cfg=_sam),
    rpn_head=dict(anchor_generator=dict(scales=[4, 8])),
    roi_head=dict(
        type='rsfoundation.RSPrompterAnchorRoIPromptHead',
        with_extra_pe=True,
        mask_head=dict(
            _delete_=True,
            type='rsfoundation.RSPrompterAnchorMaskHead',
            mask_decoder=dict(
                type='rsfoundation.RSSamMaskDecoder', hf_pretrain_name='facebook/sam-vit-base', init_cfg=_sam),
            in_channels=256,
            roi_feat_size=14,
            per_pointset_point=5,
            with_sincos=True,
            class_agnostic=True,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(rcnn=dict(sampler=dict(num=256), mask_size=(1024, 1024))))
