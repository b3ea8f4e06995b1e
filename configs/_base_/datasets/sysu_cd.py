# SYSU-CD as distributed: data/sysu_cd/{train,val,test}/{time1,time2,label}, patches of 256 px, 12000 / 4000 / 4000
# pairs.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/sysu_cd/'

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
        type='rsfoundation.SYSU_CD_Dataset',
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
        type='rsfoundation.SYSU_CD_Dataset',
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
        type='rsfoundation.SYSU_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='test/time1',
            img_path_to='test/time2',
            seg_map_path='test/label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
