# LWGANet-L2, CLAFA, on SYSU-CD (Lu et al., AAAI 2025); 16.1 M parameters.
# Reported: 82.90 F1, 70.79 IoU, 87.69 precision of the changed class, in per cent, on the SYSU-CD test set.
# Protocol: one confusion matrix over all test pixels, patches of 256 px as distributed, at a single scale; best
# checkpoint of the validation set by the mean F1 of both classes (here by that of the changed class). 1 GPU x 16 pairs,
# AdamW 5e-4, 200 epochs, ImageNet-1k weights.
_base_ = [
    '../_base_/backbones/lwganet_l2.py',
    '../_base_/heads/clafa.py',
    '../_base_/datasets/sysu_cd.py',
    '../_base_/pipelines/change_clafa.py',
    '../_base_/schedules/clafa_200e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}}, decode_head=dict(in_channels={{_base_.backbone_channels}}))
train_dataloader = dict(
    batch_size=16,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline={{_base_.train_pipeline}}))
