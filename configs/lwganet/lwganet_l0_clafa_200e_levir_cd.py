# LWGANet-L0, CLAFA, on LEVIR-CD (Lu et al., AAAI 2025).
# Reported: nothing for this backbone; LWGANet-L2 has 92.42 F1 on the LEVIR-CD test set.
# Protocol: as lwganet_l2_clafa_200e_levir_cd.
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/clafa.py',
    '../_base_/datasets/levir_cd_256.py',
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
