# Mask R-CNN on ResNet-50-FPN, NWPU VHR-10: the baseline that prompt heads have to beat under the same runner.
# Reported: 67.1 box AP and 65.8 mask AP in per cent on the NWPU VHR-10 validation split (a published rerun; the
# tables of RSPrompter have 62.3 and 59.7).
# Protocol: COCO's metrics with 100 detections an image, single scale of 1024 px; 4 images per GPU, AdamW 1e-4, 300
# epochs, float32, backbone from ImageNet. Steps and schedule are those of the other configs here.
_base_ = [
    '../_base_/heads/mask_rcnn.py',
    '../_base_/datasets/nwpu_vhr10.py',
    '../_base_/pipelines/instance_1024.py',
    '../_base_/runtime/default.py',
    '../_base_/schedules/instance_cosine.py',
]

model = dict(
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
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    data_preprocessor={{_base_.square_batches}},
    roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))

train_dataloader = dict(batch_size=4, dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_epochs=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=300, T_max=300, eta_min_ratio=0.001),
]
