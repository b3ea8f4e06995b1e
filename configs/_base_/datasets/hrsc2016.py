# HRSC2016 as distributed, one class, longer side resized to 800 px: trainval to train, test to validate and to test.
# The metric reports the VOC07 and the VOC12 figure of one run; mAP50 is VOC07's.
data_root = 'data/hrsc2016/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(800, 800), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    # any angle; images with one of the data set's upright_classes turn by right angles
    dict(type='rsfoundation.RandomRotate', prob=0.5, angle_range=180),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(800, 800), keep_ratio=True),
    # after Resize: the metric compares in pixels of the image file
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.HRSCDataset',
        data_root=data_root,
        split='trainval',
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.HRSCDataset',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.DOTAMetric', rule='voc07')
test_evaluator = val_evaluator
