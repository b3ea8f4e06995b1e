# ResNet-50, Oriented R-CNN, FAIR1M-1.0: the baseline of the LSKNet paper.
# Reported: 45.60 mAP50 on the FAIR1M-1.0 test split (server figure).
# Protocol: multi-scale training on train and multi-scale test (rates 0.5/1/1.5, gap 500), 37 classes, angles le90, 8
# GPUs x 1 image, SGD 0.02, 12 epochs, backbone from ImageNet-1k (torchvision), first stage frozen, batch norms in
# evaluation mode.
_base_ = [
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/fair1m_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone=dict(
        type='mmdet.ResNet',
        depth=50,
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
    roi_head=dict(bbox_head=dict(num_classes=37)))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))
