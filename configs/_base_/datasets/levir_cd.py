# LEVIR-CD as distributed: data/levir_cd/{train,val,test}/{A,B,label}, tiles of 1024 px. Open-CD's canonical pipeline:
# random crops of 512 px in training, whole tiles at test. Tiles that were cut or resized give other figures.
data_root = 'data/levir_cd/'

train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomRotate', prob=0.5, degree=180),
    dict(type='rsfoundation.MultiImgRandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(
        type='rsfoundation.MultiImgPhotoMetricDistortion',
        brightness_delta=10,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=10),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(img_path_from='val/A', img_path_to='val/B', seg_map_path='val/label'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
