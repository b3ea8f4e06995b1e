# FC-Siam-conc (Daudt et al., ICIP 2018) on LEVIR-CD.
# Reported: 88.08 precision, 88.95 recall, 88.51 F1, 79.39 IoU of the changed class, in per cent, on the LEVIR-CD test
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
    backbone=dict(type='rsfoundation.FC_Siam_conc', in_channels=3, base_channel=16),
    decode_head=dict(in_channels=16, channels=16))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
