# S2Looking as distributed: data/s2looking/{train,val,test}/{Image1,Image2,label}, tiles of 1024 px, 3500 / 500 / 1000
# pairs, off-nadir.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/s2looking/'

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
        type='rsfoundation.S2Looking_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='train/Image1',
            img_path_to='train/Image2',
            seg_map_path='train/label')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.S2Looking_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='val/Image1',
            img_path_to='val/Image2',
            seg_map_path='val/label'),
        test_mode=True,
        pipeline=test_pipeline))

test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.S2Looking_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='test/Image1',
            img_path_to='test/Image2',
            seg_map_path='test/label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
