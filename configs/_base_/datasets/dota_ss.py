# DOTA-1.0 cut at one scale: windows of 1024 px that share 200 px (data/README.md has the command).
# Training takes train + val, as the published results do; the validation figure is therefore a check that
# training works, not a result. Results come from the DOTA server on the test split.
# preset='ss': a folder that was cut otherwise is refused. Storage tanks and roundabouts have upright boxes by custom.
data_root = 'data/dota/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(1024, 1024), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    # any angle; images with one of the data set's upright_classes turn by right angles
    dict(type='rsfoundation.RandomRotate', prob=0.5, angle_range=180),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(1024, 1024), keep_ratio=True),
    # after Resize: the metric compares in pixels of the image file
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'window', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.DOTADataset',
        data_root=data_root,
        split='ss/trainval',
        version='1.0',
        preset='ss',
        upright_classes=['storage-tank', 'roundabout'],
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.DOTADataset',
        data_root=data_root,
        split='ss/val',
        version='1.0',
        preset='ss',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.DOTAMetric', rule='voc07')
test_evaluator = val_evaluator
# what `rsf test --format-only` tests: the split whose labels only the server has
submission = dict(split='ss/test')
