# SAM-seg (Mask2Former) (Chen et al., TGRS 2024) on SAM ViT-B, WHU Building.
# Reported: nothing with ViT-B; with ViT-H 70.7 box AP (88.4 at 0.5, 79.1 at 0.75) and 71.1 mask AP (89.5, 81.1) in
# per cent on the WHU Building test split (RSPrompter, tables I to III).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 4 images per GPU, AdamW 1e-4, 300
# epochs, DeepSpeed ZeRO-2 (`--strategy deepspeed-zero2`); the best checkpoint of the same split is reported.
_base_ = [
    '../_base_/backbones/sam_vit_base_all.py',
    '../_base_/heads/sam_seg_mask2former.py',
    '../_base_/datasets/whu_building.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(feature_aggregator=dict(in_channels='base', select_layers=range(1, 13, 2))),
    backbone_freeze=True,
    data_preprocessor={{_base_.square_batches}},
    panoptic_head=dict(
        num_things_classes=1,
        loss_cls=dict(class_weight=[1.0] * 1 + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=1))

train_dataloader = dict(batch_size=4, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300, eta_min_ratio=0.001),
]
