# LWGANet-L0 with UNetFormer for the toy scenes, from random weights, for two CPU cores.
# Protocol: 160 training and 40 held-out scenes of 256 px, ISPRS's six classes, mIoU over all six (seed 0): 0.7085.
_base_ = [
    '../_base_/backbones/lwganet_l0_scratch.py',
    '../_base_/heads/unetformer.py',
    '../_base_/datasets/toy_segmentation.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, dropout_ratio=0.0),
    test_cfg=dict(crop_size=(256, 256), stride=(192, 192)))

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', by_epoch=False, begin=40, end=400, power=1.0, eta_min=1e-6),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=10, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10))
predict = dict(window=256, overlap=64)
# what `rsf demo segmentation` draws and predicts
demo = dict(data='data/toy', inputs=['data/toy/segmentation/img_dir/large/P0001.png'])
