# SAM-det (Faster R-CNN R50-FPN) (Chen et al., TGRS 2024), SSDD.
# Reported: 70.0 box AP (95.8 at 0.5, 85.3 at 0.75) and 46.0 mask AP (93.8, 37.0) in per cent on the SSDD validation
# split, with SAM's ViT-H (RSPrompter, tables I to III); the config has ViT-B.
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 4 images per GPU, AdamW 1e-4, 300
# epochs, float32; the best checkpoint of the same split is reported.
_base_ = [
    '../_base_/heads/sam_det.py',
    '../_base_/datasets/ssdd.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
    data_preprocessor={{_base_.square_batches}},
    detector=dict(roi_head=dict(bbox_head=dict(num_classes=1))))

train_dataloader = dict(batch_size=4, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300, eta_min_ratio=0.001),
]
