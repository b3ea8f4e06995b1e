# CLCD as distributed: data/clcd/{train,val,test}/{time1,time2,label}, tiles of 512 px of cropland, 360 / 120 / 120
# pairs.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/clcd/'

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
        type='rsfoundation.CLCD_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='train/time1',
            img_path_to='train/time2',
            seg_map_path='train/label')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.CLCD_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='val/time1',
            img_path_to='val/time2',
            seg_map_path='val/label'),
        test_mode=True,
        pipeline=test_pipeline))

test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.CLCD_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='test/time1',
            img_path_to='test/time2',
            seg_map_path='test/label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
