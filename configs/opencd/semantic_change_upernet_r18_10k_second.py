# UPerNet on ResNet-18 for semantic change detection (GeneralSCDHead of Open-CD) on SECOND: what changed, and the land
# cover of both dates where it did.
# Reported: nothing that was found for this model.
# Protocol: the public validation pairs of 512 px, whole, at a single scale; crops of 256 x 384 px, 1 GPU x 8 pairs,
# AdamW 5e-4, 10 000 iterations. Published scores of SECOND are SeK and 0.3 mIoU + 0.7 SeK.
_base_ = [
    '../_base_/heads/semantic_change_upernet.py',
    '../_base_/datasets/second.py',
    '../_base_/pipelines/semantic_change.py',
    '../_base_/schedules/second_10k.py',
    '../_base_/runtime/iterations.py',
]

_heads = dict(in_channels=[64, 128, 256, 512])
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
    decode_head=dict(binary_cd_head=_heads, semantic_cd_head=_heads))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
default_hooks = dict(checkpoint=dict(interval=1000))
