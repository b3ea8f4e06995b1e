# UNetFormer on LSKNet-S into one on LWGANet-L0, on Vaihingen.
# Reported: nothing for this combination.
# Protocol: 17 test tiles, eroded masks, patches of 1024 px without overlap. One confusion matrix; mean F1 and mIoU
# over five classes with clutter kept in the matrix (`mF1/clutter_kept`, `mIoU/clutter_kept`), OA over six. 40 passes
# at test (`--tta`): flips, quarter turn, five scales, mean of logits.
# Training: 1 GPU x 8 images, AdamW within Lookahead 4e-4, 105 epochs, ImageNet-1k weights. The teacher is trained first:
#   rsf train lsknet/lsknet_s_unetformer_105e_vaihingen
_base_ = '../lwganet/lwganet_l0_unetformer_105e_vaihingen.py'

distill = dict(
    teacher_config='lsknet/lsknet_s_unetformer_105e_vaihingen',
    teacher_checkpoint='work_dirs/lsknet_s_unetformer_105e_vaihingen',
    losses=[
        dict(type='PixelImitation', module='decode_head.conv_seg', weight=1.0),
        dict(type='FeatureImitation', module='decode_head.conv_seg', part='input', weight=1.0),
    ])
