# A small Siamese UPerNet on LSKNet-T for pairs of toy scenes, from random weights, in a few minutes on two CPU cores.
# Protocol: 160 training and 40 held-out pairs of 256 px; buildings that came or went changed, vehicles and season did not.
# Metrics are those of the changed class over all held-out pixels: F1 0.73 (seed 0, 320 iterations of 4 crops).
# Differs from Open-CD's siam_upernet in size (64 channels instead of 128), in comparing the dates by the absolute
# difference of their features, and in weighing the changed class: with 2 % changed pixels and 320 steps both save time.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/siam_upernet.py',
    '../_base_/datasets/toy_change.py',
    '../_base_/runtime/default.py',
]

# mmseg's loss cannot weigh classes and average over what is not ignored at once; nothing is ignored here.
_loss = dict(class_weight=[1.0, 4.0], avg_non_ignore=False)
model = dict(
    backbone={{_base_.backbone}},
    neck=dict(policy='abs_diff'),
    decode_head=dict(
        in_channels=_base_.backbone_channels, channels=64, dropout_ratio=0.0, loss_decode=_loss),
    auxiliary_head=dict(in_channels=_base_.backbone_channels[2], dropout_ratio=0.0, loss_decode=_loss))
train_dataloader = dict(batch_size=4)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', by_epoch=False, begin=20, end=320, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=8)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo change` draws and predicts
demo = dict(
    data='data/toy', inputs=['data/toy/change/large/A/large_1.png', 'data/toy/change/large/B/large_1.png'])
