# RSP-ResNet-50, Oriented R-CNN (Wang et al., TGRS 2022), HRSC2016.
# Reported: 90.10 mAP50 by the VOC07 rule on the HRSC2016 test split.
# Protocol: images within 1333 x 800 px at a single scale, trainval to train, test to test, flips and no rotation, 1
# GPU x 2 images, SGD 0.005, first stage frozen, batch norms in evaluation mode, 36 epochs, backbone from MillionAID.
# The pre-training behind these numbers is not that of the segmentors: SGD 0.1, batch 512, MillionAID.
_base_ = [
    '../_base_/backbones/rsp_resnet50.py',
    '../_base_/heads/oriented_rcnn_rsp.py',
    '../_base_/datasets/rsp_hrsc.py',
    '../_base_/schedules/3x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'frozen_stages': 1, 'norm_eval': True},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=1)))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    _base_.param_scheduler[1],
]
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=2)
