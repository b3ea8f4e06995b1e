# RSPrompter-query (Chen et al., TGRS 2024) on SAM ViT-H, WHU Building.
# Reported: 72.5 box AP (91.0 at 0.5, 81.7 at 0.75) and 72.5 mask AP (92.0, 82.9) in per cent on the WHU Building test
# split (RSPrompter, tables I to III).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 1 image per GPU, AdamW 1e-4, 300
# epochs, DeepSpeed ZeRO-2 in float16 (`--strategy deepspeed-zero2`); the best checkpoint of the same split is
# reported.
_base_ = [
    '../_base_/backbones/sam_vit_huge_all.py',
    '../_base_/heads/rsprompter_query.py',
    '../_base_/datasets/whu_building.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(feature_aggregator=dict(in_channels='huge', select_layers=range(1, 33, 2))),
    data_preprocessor={{_base_.square_batches}},
    # the parts of SAM that were trained with this encoder
    shared_image_embedding=dict(init_cfg=dict(checkpoint='sam_vit_huge-sa1b')),
    panoptic_head=dict(
        mask_decoder=dict(init_cfg=dict(checkpoint='sam_vit_huge-sa1b')),
        num_things_classes=1,
        num_queries=100,
        loss_cls=dict(class_weight=[1.0] * 1 + [0.1])),
    panoptic_fusion_head=dict(num_things_classes=1),
    test_cfg=dict(max_per_image=100))

train_dataloader = dict(batch_size=1, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300, eta_min_ratio=0.001),
]
