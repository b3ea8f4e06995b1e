# LSKNet-T, R3Det (Li et al., ICCV 2023).
# Reported: nothing; the authors ship the settings. LSKNet-S with this head: 80.08 mAP50 (DOTA-1.0 server).
# Protocol: multi-scale training on train + val and multi-scale test (rates 0.5/1/1.5, gap 500), angles oc in the
# range of mmrotate 0.x, 8 GPUs x 2 images, AdamW 2e-4, 12 epochs, backbone from ImageNet-1k (300 epochs).
_base_ = [
    '../_base_/backbones/lsknet_t.py',
    '../_base_/heads/r3det.py',
    '../_base_/datasets/dota_ms.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}))
