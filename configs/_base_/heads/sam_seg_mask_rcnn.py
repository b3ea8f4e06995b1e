# "SAM-seg" (RSPrompter, arXiv 2306.16269) and "RS4D-bbox" (arXiv 2606.25324): Mask R-CNN on the block outputs of a plain
# encoder, aggregated and grown into a pyramid. The encoder gives every block as `featmap_hwc`
# (backbones/rsmamba_b_all.py). A config places it:
#   model = dict(
#       backbone={{_base_.backbone}},
#       neck=dict(feature_aggregator=dict(in_channels='rsmamba_base', select_layers=range(1, 24, 2))),
#       roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))
_base_ = './mask_rcnn.py'

model = dict(
    type='rsfoundation.SAMSegMaskRCNN',
    backbone_freeze=False,
    neck=dict(
        _delete_=True,
        type='rsfoundation.RSFPN',
        feature_aggregator=dict(type='rsfoundation.RSFeatureAggregator', hidden_channels=32, out_channels=256),
        feature_spliter=dict(
            type='rsfoundation.RSSimpleFPN',
            backbone_channel=256,
            in_channels=[64, 128, 256, 256],
            out_channels=256,
            num_outs=5,
            norm_cfg=dict(type='rsfoundation.LN2d', requires_grad=True))))
