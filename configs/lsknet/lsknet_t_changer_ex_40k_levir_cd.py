# LSKNet-T, Changer with exchange, on LEVIR-CD (Li et al., IJCV 2024).
# Reported: nothing for this backbone; LSKNet-S has 92.27 F1 on the LEVIR-CD test set.
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale. The paper's settings of
# training were not found: these are Changer's for MiT, whose stages are as wide (crops of 512 px, 1 GPU x 8 pairs,
# AdamW 1e-4, 40 000 iterations, ImageNet-1k weights).
_base_ = [
    '../_base_/backbones/lsknet_t.py',
    '../_base_/heads/changer_ex.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_changer.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(backbone={{_base_.backbone}}), decode_head=dict(in_channels={{_base_.backbone_channels}}))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

# The head learns ten times as fast; norms take no weight decay.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0))))
