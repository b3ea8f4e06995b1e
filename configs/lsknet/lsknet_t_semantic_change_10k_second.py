# LSKNet-T, UPerNet for semantic change detection, on SECOND.
# Reported: nothing.
# Protocol: as opencd/semantic_change_upernet_r18_10k_second.
_base_ = [
    '../_base_/backbones/lsknet_t.py',
    '../_base_/heads/semantic_change_upernet.py',
    '../_base_/datasets/second.py',
    '../_base_/pipelines/semantic_change.py',
    '../_base_/schedules/second_10k.py',
    '../_base_/runtime/iterations.py',
]

_heads = dict(in_channels={{_base_.backbone_channels}})
model = dict(
    backbone={{_base_.backbone}}, decode_head=dict(binary_cd_head=_heads, semantic_cd_head=_heads))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
default_hooks = dict(checkpoint=dict(interval=1000))
