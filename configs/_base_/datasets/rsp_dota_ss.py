# DOTA-1.0 at one scale with RSP's augmentation: horizontal and vertical flips by themselves, no rotation. Boxes under
# 2 px are ignored, not dropped, and images without boxes left out. Otherwise as dota_ss.py.
data_root = 'data/dota/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(1024, 1024), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='vertical'),
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
        small='ignore',
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
        ignore_difficulty=1,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.DOTAMetric', rule='voc07')
test_evaluator = val_evaluator
