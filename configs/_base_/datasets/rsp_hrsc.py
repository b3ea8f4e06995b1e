# HRSC2016 with RSP's augmentation: horizontal and vertical flips by themselves, no rotation, images within
# 1333 x 800 px. Boxes under 2 px are ignored, not dropped. Otherwise as hrsc2016.py.
_base_ = './hrsc2016.py'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='vertical'),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    # after Resize: the metric compares in pixels of the image file
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(dataset=dict(small='ignore', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
