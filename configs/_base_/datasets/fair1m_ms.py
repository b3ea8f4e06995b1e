# FAIR1M 1.0 cut at three scales: windows of 2048, 1024 and 682 px (rates 0.5, 1, 1.5) that share 500 px per 1024,
# resized to 1024 (`rsf prepare fair1m`). Version 1.0 has no labelled validation split: the validation figure is that of
# training patches, a check that training works. Results come from the FAIR1M server on the test split.
# Upright classes: the published runs kept DOTA's labels 9 and 11, which are ARJ21 and Passenger_Ship here. What was
# meant, by --cfg-options train_dataloader.dataset.upright_classes="['Roundabout']".
data_root = 'data/fair1m/'

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
        type='rsfoundation.FAIR1MDataset',
        data_root=data_root,
        split='ms/train',
        preset='ms',
        upright_classes=['ARJ21', 'Passenger_Ship'],
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.FAIR1MDataset',
        data_root=data_root,
        split='ms/train',
        preset='ms',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.DOTAMetric', rule='voc07')
test_evaluator = val_evaluator
# what `rsf test --format-only` tests: the split whose labels only the server has
submission = dict(split='ms/test')
