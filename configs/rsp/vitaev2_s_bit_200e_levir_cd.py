# RSP-ViTAEv2-S-E100, BIT, on LEVIR-CD (Wang et al., TGRS 2022).
# Reported: 90.93 F1 of the changed class, in per cent, on the LEVIR-CD test set.
# Protocol: the published number is the mean over test batches of 8 patches of each batch's F1, which is not comparable
# with one confusion matrix over the whole test set (the authors note that this gives higher values). Patches of 256 px
# cut from the tiles, raw RGB values from 0 to 255, flips and quarter turns, 1 GPU x 8 pairs, AdamW 6e-5, 200 epochs,
# backbone from MillionAID.
_base_ = [
    '../_base_/backbones/vitaev2_s.py',
    '../_base_/heads/rsp_bit.py',
    '../_base_/datasets/levir_cd_256.py',
    '../_base_/pipelines/change_flips.py',
    '../_base_/schedules/rsp_change_200e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'out_indices': (0, 1, 2), 'drop_path_rate': 0.3},
    decode_head=dict(in_channels=_base_.backbone_channels[2]))
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(pipeline={{_base_.train_pipeline}}))
val_dataloader = dict(batch_size=8)
test_dataloader = dict(batch_size=8)
# `changed/F1_per_batch8` is the published kind of number.
val_evaluator = dict(variants=['per_batch'], batch_size=8)
test_evaluator = val_evaluator
