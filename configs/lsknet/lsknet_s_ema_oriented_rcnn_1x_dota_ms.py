# LSKNet-S with averaged weights, Oriented R-CNN (Li et al., ICCV 2023).
# Reported: 81.85 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule).
# Protocol: multi-scale training on train + val and multi-scale test (rates 0.5/1/1.5, gap 500), angles le90,
# 8 GPUs x 1 image, AdamW 2e-4, 12 epochs, backbone from ImageNet-1k (300 epochs).
# "(1024, 1024, 200)" next to this number in the paper's tables does not mean single scale.
_base_ = [
    '../_base_/backbones/lsknet_s.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/dota_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='mmdet.ExpMomentumEMA',
        momentum=2e-4,
        gamma=102492,  # 12 epochs of 8541 iterations, those of about 68.3k patches in batches of 8
        update_buffers=True,
        priority=49)
]
