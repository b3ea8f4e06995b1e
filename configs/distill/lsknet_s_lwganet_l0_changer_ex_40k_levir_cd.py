# Changer with exchange on LSKNet-S into one on LWGANet-L0, on LEVIR-CD.
# Reported: nothing for this combination.
# Protocol: one confusion matrix over all test pixels, whole tiles of 1024 px at a single scale. Crops of 512 px, 1 GPU
# x 8 pairs, AdamW 1e-4, 40 000 iterations, ImageNet-1k weights. The teacher is trained first:
#   rsf train lsknet/lsknet_s_changer_ex_40k_levir_cd
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/changer_ex.py',
    '../_base_/datasets/levir_cd.py',
    '../_base_/pipelines/change_changer.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(backbone={{_base_.backbone}}), decode_head=dict(in_channels={{_base_.backbone_channels}}))
distill = dict(
    teacher_config='lsknet/lsknet_s_changer_ex_40k_levir_cd',
    teacher_checkpoint='work_dirs/lsknet_s_changer_ex_40k_levir_cd',
    losses=[
        dict(type='PixelImitation', module='decode_head.conv_seg', weight=1.0),
        dict(type='FeatureImitation', module='decode_head.conv_seg', part='input', weight=1.0),
    ])
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

# The head learns ten times as fast; norms take no weight decay.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0), head=dict(lr_mult=10.0))))
