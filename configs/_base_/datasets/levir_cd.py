# LEVIR-CD as distributed: data/levir_cd/{train,val,test}/{A,B,label}, tiles of 1024 px, 445 / 64 / 128 pairs. Training
# crops from the tiles, tests are on whole tiles: tiles that were resized give other numbers.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/levir_cd/'

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
        data_prefix=dict(
            img_path_from='train/A',
            img_path_to='train/B',
            seg_map_path='train/label')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.LEVIR_CD_Dataset',
        data_root=data_root,
        data_prefix=dict(
            img_path_from='val/A',
            img_path_to='val/B',
            seg_map_path='val/label'),
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
        data_prefix=dict(
            img_path_from='test/A',
            img_path_to='test/B',
            seg_map_path='test/label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
