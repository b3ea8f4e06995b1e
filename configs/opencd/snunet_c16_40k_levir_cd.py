# SNUNet with 16 base channels (Fang et al., GRSL 2021) on LEVIR-CD.
# Reported: 92.70 precision, 90.04 recall, 91.35 F1, 84.08 IoU of the changed class, in per cent, on the LEVIR-CD test
# set (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale; crops of 256 px, 1 GPU
# x 8 pairs, AdamW 1e-3, 40 000 iterations.
_base_ = [
    '../_base_/heads/change_full_resolution.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(type='rsfoundation.SNUNet_ECAM', in_channels=3, base_channel=16),
    decode_head=dict(in_channels=64, channels=64))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
