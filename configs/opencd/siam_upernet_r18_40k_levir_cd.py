# Siamese UPerNet on ResNet-18, the baseline, on LEVIR-CD.
# Reported: nothing (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 256 px, 1 GPU
# x 8 pairs, AdamW 1e-3, 40 000 iterations.
_base_ = [
    '../_base_/heads/siam_upernet.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
        init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://resnet18_v1c')),
    decode_head=dict(in_channels=[128, 256, 512, 1024], channels=128),
    auxiliary_head=dict(in_channels=512, channels=64))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
