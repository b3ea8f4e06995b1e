# SAM-seg (Mask R-CNN) (Chen et al., TGRS 2024) on SAM ViT-B, SSDD.
# Reported: nothing with ViT-B; with ViT-H 68.7 box AP (97.2 at 0.5, 84.3 at 0.75) and 66.1 mask AP (94.5, 83.7) in
# per cent on the SSDD validation split (RSPrompter, tables I to III).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 2 images per GPU, AdamW 2e-4, 250
# epochs, mixed precision; the best checkpoint of the same split is reported.
_base_ = [
    '../_base_/backbones/sam_vit_base_all.py',
    '../_base_/heads/sam_seg_mask_rcnn.py',
    '../_base_/datasets/ssdd.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(feature_aggregator=dict(in_channels='base', select_layers=range(1, 13, 2))),
    backbone_freeze=True,
    data_preprocessor={{_base_.square_batches}},
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)))

train_dataloader = dict(batch_size=2, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=250)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=250, T_max=250, eta_min_ratio=0.001),
]
