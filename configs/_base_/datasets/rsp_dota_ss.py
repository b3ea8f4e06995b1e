# DOTA-1.0 at one scale with RSP's augmentation: horizontal and vertical flips by themselves, no rotation. Boxes under
# 2 px are ignored, not dropped, and images without boxes left out. Otherwise as dota_ss.py.
_base_ = './dota_ss.py'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(1024, 1024), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.RandomFlip', prob=0.5, direction='vertical'),
    dict(type='mmdet.PackDetInputs'),
]

train_dataloader = dict(dataset=dict(upright_classes=[], small='ignore', pipeline=train_pipeline))
