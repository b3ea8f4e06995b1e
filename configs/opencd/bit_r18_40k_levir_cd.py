# BIT on ResNet-18 (Chen et al., TGRS 2021), the map of stride 8 of its third stage, on LEVIR-CD.
# Reported: 91.97 precision, 88.62 recall, 90.26 F1, 82.25 IoU of the changed class, in per cent, on the LEVIR-CD test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 256 px, 1 GPU
# x 8 pairs, AdamW 1e-3, 40 000 iterations.
_base_ = [
    '../_base_/heads/bit.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        num_stages=3,
        out_indices=(2,),
        dilations=(1, 1, 1),
        strides=(1, 2, 1),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c')),
    neck=dict(out_indices=[0]),
    decode_head=dict(in_channels=256))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
