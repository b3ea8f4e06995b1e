# WHU-CD in patches of 256 px: data/whu_cd/{A,B,label} and list/{train,val,test}.txt, 6096 / 762 / 762 pairs. There is
# no official split of patches: the lists are those of BIT and ChangeFormer.
# The config places a train_pipeline of ../pipelines: train_dataloader = dict(dataset=dict(pipeline=...)).
data_root = 'data/whu_cd/'

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
        type='rsfoundation.WHU_CD_Dataset',
        data_root=data_root,
        ann_file='list/train.txt',
        data_prefix=dict(
            img_path_from='A',
            img_path_to='B',
            seg_map_path='label')))

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.WHU_CD_Dataset',
        data_root=data_root,
        ann_file='list/val.txt',
        data_prefix=dict(
            img_path_from='A',
            img_path_to='B',
            seg_map_path='label'),
        test_mode=True,
        pipeline=test_pipeline))

test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.WHU_CD_Dataset',
        data_root=data_root,
        ann_file='list/test.txt',
        data_prefix=dict(
            img_path_from='A',
            img_path_to='B',
            seg_map_path='label'),
        test_mode=True,
        pipeline=test_pipeline))

val_evaluator = dict(type='rsfoundation.ChangeMetric')
test_evaluator = val_evaluator
