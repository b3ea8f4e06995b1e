# DSIFN as released for change detection toolboxes: data/dsifn/{train,val,test}/{t1,t2,mask}, tiles of 512 px, 3600 /
# 340 / 48 pairs, labels of 0 and 1.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/dsifn/'

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
        type='rsfoundation.DSIFN_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='train/t1',
            img_path_to='train/t2',
            seg_map_path='train/mask')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.DSIFN_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='val/t1',
            img_path_to='val/t2',
            seg_map_path='val/mask'),
        test_mode=True,
        pipeline=test_pipeline))

test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.DSIFN_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='test/t1',
            img_path_to='test/t2',
            seg_map_path='test/mask'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
