# Pairs of toy scenes of 256 px in LEVIR-CD's layout (`rsf prepare toy`): 160 to train, 40 held out.
data_root = 'data/toy/change/'

train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomCrop', crop_size=(128, 128), cat_max_ratio=0.95),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.MultiImgExchangeTime', prob=0.5),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(img_path_from='val/A', img_path_to='val/B', seg_map_path='val/label'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
