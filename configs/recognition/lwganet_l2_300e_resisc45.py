# LWGANet-L2 on NWPU-RESISC45 from random weights. Reported: top-1 96.17 (README of LWGANet).
# Protocol: 224 px, batch 64, AdamW 5e-4, 300 epochs, RandAugment. The split is not stated; the reported numbers are
# whole images of 20 % of UC Merced and AID, so 80 % of each class train here. Not retrained by us.
_base_ = [
    '../_base_/heads/scene.py',
    '../_base_/datasets/resisc45.py',
    '../_base_/schedules/recognition_300e.py',
    '../_base_/runtime/default.py',
]
model = dict(
    backbone=dict(
        type='rsfoundation.LWGANet',
        arch='l2',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    head=dict(num_classes=45, hidden_channels=1280, act_cfg=dict(type='ReLU')))
default_hooks = dict(checkpoint=dict(interval=10))
