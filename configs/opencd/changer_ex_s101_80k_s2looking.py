# ChangerEx on ResNeSt-101 (Fang et al., TGRS 2023) on S2Looking.
# Reported: 74.40 precision, 61.95 recall, 67.61 F1, 51.07 IoU of the changed class, in per cent, on the S2Looking test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 512 px, 1 GPU
# x 8 pairs, AdamW 1e-3, 80 000 iterations.
_base_ = [
    '../_base_/heads/changer_ex.py',
    '../_base_/datasets/s2looking.py',
    '../_base_/pipelines/change_changer.py',
    '../_base_/schedules/change_80k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='rsfoundation.IA_ResNeSt',
        depth=101,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        stem_channels=128,
        radix=2,
        reduction_factor=4,
        avg_down_stride=True,
        interaction_cfg=_base_.model.backbone.interaction_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnest101')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048], channels=256))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
default_hooks = dict(checkpoint=dict(interval=8000))
