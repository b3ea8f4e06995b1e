# SSDD with boxes around its polygons, images resized to 512 px: 928 to train, 232 to validate and to test.
# Any of the layouts that rsfoundation.SSDDDataset knows. Otherwise as hrsc2016.py.
_base_ = './hrsc2016.py'

data_root = 'data/ssdd/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.Resize', scale=(512, 512), keep_ratio=True),
    dict(type='rsfoundation.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.RandomRotate', prob=0.5, angle_range=180),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(512, 512), keep_ratio=True),
    # after Resize: the metric compares in pixels of the image file
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]

train_dataloader = dict(
    dataset=dict(type='rsfoundation.SSDDDataset', data_root=data_root, split='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(type='rsfoundation.SSDDDataset', data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
