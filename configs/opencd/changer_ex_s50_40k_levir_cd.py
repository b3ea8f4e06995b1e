# ChangerEx on ResNeSt-50 (Fang et al., TGRS 2023) on LEVIR-CD.
# Reported: 93.47 precision, 90.95 recall, 92.19 F1, 85.51 IoU of the changed class, in per cent, on the LEVIR-CD test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 512 px, 1 GPU
# x 8 pairs, AdamW 5e-3, 40 000 iterations.
_base_ = [
    '../_base_/heads/changer_ex.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_changer.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='rsfoundation.IA_ResNeSt',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        stem_channels=64,
        radix=2,
        reduction_factor=4,
        avg_down_stride=True,
        interaction_cfg=_base_.model.backbone.interaction_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnest50')),
    decode_head=dict(in_channels=[256, 512, 1024, 2048], channels=256))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

optim_wrapper = dict(optimizer=dict(lr=5e-3))
