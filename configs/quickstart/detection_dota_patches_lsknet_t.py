# The detector of detection_toy_lsknet_t.py, trained on patches cut from a few real DOTA images, best from its toy
# checkpoint:
#   rsf train detection_dota_patches_lsknet_t --cfg-options load_from=work_dirs/detection_toy_lsknet_t/NAME.pth
# Protocol: windows of 256 px enlarged to 512, so that ships and vehicles of 10 to 25 px look the size of toy ones;
# VOC07 rule. Training and validation read the same patches: a check that real labels can be learned, no benchmark.
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/oriented_rcnn_small.py',
    '../_base_/datasets/toy_detection.py',
    '../_base_/runtime/default.py',
]

data_root = 'data/patches/'
scale = (512, 512)

# a harbour patch holds more than a hundred ships
_proposals = dict(nms_pre=1000, max_per_img=600)
model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=256)),
        rpn_proposal=_proposals,
        rcnn=dict(sampler=dict(num=256))),
    test_cfg=dict(rpn=_proposals, rcnn=dict(max_per_img=500)))

_load = _base_.train_pipeline[:3]
_resize = dict(type='mmdet.Resize', scale=scale, keep_ratio=True)
train_pipeline = [
    *_load,
    _resize,
    dict(type='rsfoundation.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.RandomRotate', prob=0.5, angle_range=180),
    dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(5, 5)),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [_base_.test_pipeline[0], _resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_root=data_root,
        split='train',
        ignore_difficulty=2,  # cut by the border of its window
        pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=500, T_max=450, eta_min_ratio=0.02),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=250)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(by_epoch=False, interval=250))
log_processor = dict(by_epoch=False)
predict = dict(window=256, overlap=64)  # the size the patches are cut in: both are enlarged to 512
