# RS4D-bbox (Yang et al., TGRS 2026) on RSMamba-base, NWPU VHR-10, aggregator and pyramid with a second path, and
# mosaics ("pa11"; how often and how far it turns and scales them is not published: half of the samples, mmdet's ranges).
# Reported: tables of the paper could not be found in public; aim at the rows of SAM-seg and RSPrompter on this data
# set (../rsprompter).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 6 images per GPU, AdamW 1e-4, 1600
# epochs, float32. The encoder starts from weights distilled from SAM, which are not public: name yours in
# backbone.init_cfg.
_base_ = [
    '../_base_/backbones/rsmamba_b_all.py',
    '../_base_/heads/sam_seg_mask_rcnn.py',
    '../_base_/datasets/nwpu_vhr10.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(
        feature_aggregator=dict(type='rsfoundation.RSFeaturePaAggregator', in_channels='rsmamba_base', select_layers=range(3, 24, 7)),
        feature_spliter=dict(type='rsfoundation.RSSimplePaFPN')),
    backbone_freeze=True,
    data_preprocessor={{_base_.square_batches}},
    roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))

train_dataloader = dict(batch_size=6, dataset=dict(pipeline={{_base_.mosaic_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=1600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=1600, T_max=1600, eta_min_ratio=0.001),
]
