# RSPrompter-anchor (Chen et al., TGRS 2024) on SAM ViT-H, SSDD.
# Reported: 70.4 box AP (97.7 at 0.5, 86.2 at 0.75) and 66.8 mask AP (94.7, 84.0) in per cent on the SSDD validation
# split (RSPrompter, tables I to III).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 2 images per GPU, AdamW 2e-4, 600
# epochs, mixed precision; the best checkpoint of the same split is reported.
_base_ = [
    '../_base_/backbones/sam_vit_huge_all.py',
    '../_base_/heads/rsprompter_anchor.py',
    '../_base_/datasets/ssdd.py',
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
    roi_head=dict(
        bbox_head=dict(num_classes=1),
        mask_head=dict(mask_decoder=dict(init_cfg=dict(checkpoint='sam_vit_huge-sa1b')))))

train_dataloader = dict(batch_size=2, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(lr=2e-4))
train_cfg = dict(max_epochs=600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=600, T_max=600, eta_min_ratio=0.001),
]
