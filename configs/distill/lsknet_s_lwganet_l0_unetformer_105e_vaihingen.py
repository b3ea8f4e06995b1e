# UNetFormer on LSKNet-S into one on LWGANet-L0, on Vaihingen.
# Reported: nothing for this combination.
# Protocol: 17 test tiles, eroded masks, patches of 1024 px without overlap. One confusion matrix; mean F1 and mIoU
# over five classes with clutter kept in the matrix (`mF1/clutter_kept`, `mIoU/clutter_kept`), OA over six. 40 passes
# at test (`--tta`): flips, quarter turn, five scales, mean of logits.
# Training: 1 GPU x 8 images, AdamW within Lookahead 4e-4, 105 epochs, ImageNet-1k weights. The teacher is trained first:
#   rsf train lsknet/lsknet_s_unetformer_105e_vaihingen
_base_ = [
    '../_base_/backbones/lwganet_l0.py',
    '../_base_/heads/unetformer.py',
    '../_base_/datasets/vaihingen.py',
    '../_base_/schedules/segmentation_105e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=6),
    test_cfg=dict(_delete_=True, mode='whole'))
distill = dict(
    teacher_config='lsknet/lsknet_s_unetformer_105e_vaihingen',
    teacher_checkpoint='work_dirs/lsknet_s_unetformer_105e_vaihingen',
    losses=[
        dict(type='PixelImitation', module='decode_head.conv_seg', weight=1.0),
        dict(type='FeatureImitation', module='decode_head.conv_seg', part='input', weight=1.0),
    ])
tta = dict(
    scales=(0.5, 0.75, 1.0, 1.25, 1.5),
    flips=(None, 'horizontal', 'vertical', 'diagonal'),
    rotations=(0, 90),
    average='logits',
    resize='bicubic')
default_hooks = dict(checkpoint=dict(save_best='mF1/clutter_kept'))
predict = dict(window=1024, overlap=256)
