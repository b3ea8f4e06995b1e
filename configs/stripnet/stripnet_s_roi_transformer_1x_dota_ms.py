# StripNet-S, RoI Transformer (Yuan et al., arXiv 2501.03775).
# Reported: 81.72 mAP50 on the DOTA-1.0 test split (server figure, 15 classes, VOC07 rule).
# Protocol: multi-scale training on train + val and multi-scale test (rates 0.5/1/1.5, gap 500), angles le90, 8 GPUs x
# 1 image, 12 epochs, backbone from ImageNet-1k.
# The authors publish no config for this number: AdamW 1e-4 and stochastic depth 0.15 are those of Strip R-CNN.
_base_ = [
    '../_base_/backbones/stripnet_s.py',
    '../_base_/heads/roi_transformer.py',
    '../_base_/datasets/dota_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
