# RSP-ResNet-50, Oriented R-CNN (Wang et al., TGRS 2022).
# Reported: 76.50 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule).
# Protocol: single-scale training on train + val and single-scale test (1024 px, gap 200), flips and no rotation, 1
# GPU x 2 images, SGD 0.005, first stage frozen, batch norms in evaluation mode, 12 epochs, backbone from MillionAID.
# The pre-training behind these numbers is not that of the segmentors: SGD 0.1, batch 512, MillionAID.
_base_ = [
    '../_base_/backbones/rsp_resnet50.py',
    '../_base_/heads/oriented_rcnn_rsp.py',
    '../_base_/datasets/rsp_dota_ss.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'frozen_stages': 1, 'norm_eval': True},
    neck=dict(in_channels={{_base_.backbone_channels}}))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    _base_.param_scheduler[1],
]
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4))
auto_scale_lr = dict(base_batch_size=2)
