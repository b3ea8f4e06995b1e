# UC Merced as distributed, a folder per class, 80 % of each class to train: see data/README.md.
data_root = 'data/UCMerced/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.RandAugment'),
    dict(type='rsfoundation.PackSceneInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.CentralCrop', size=224),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.UCMerced', data_root=data_root, split='train', train_ratio=0.8, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.UCMerced', data_root=data_root, split='val', train_ratio=0.8,
        test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='rsfoundation.SceneMetric')
test_evaluator = val_evaluator
