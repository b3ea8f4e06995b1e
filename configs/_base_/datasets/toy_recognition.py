# Toy scenes of one kind of block each (`rsf prepare toy --task recognition`): 160 to train, 40 held out, eight classes.
data_root = 'data/toy/recognition/'
num_classes = 8

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=96, scale=(0.35, 1.0)),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.PackSceneInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.CentralCrop', size=96, share=1.0),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='rsfoundation.SceneDataset', data_root=data_root + 'train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.SceneDataset', data_root=data_root + 'val', test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='rsfoundation.SceneMetric')
test_evaluator = val_evaluator
