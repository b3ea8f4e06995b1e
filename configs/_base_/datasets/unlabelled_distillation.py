# Every image and scene below data/unlabelled/train and data/unlabelled/val: windows of 1024 px, flipped for training;
# of the held-out windows all are brought to one size, for the maps of the report have to be.
data_root = 'data/unlabelled/'
_side = 1024
_dataset = dict(type='rsfoundation.UnlabelledImages', window=_side, metainfo=dict(classes=('unlabelled',)))

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=_side, scale=(0.3, 1.0)),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.PackSceneInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='Resize', scale=(_side, _side)),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**_dataset, data_root=data_root + 'train/', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, data_root=data_root + 'val/', pipeline=test_pipeline))
test_dataloader = val_dataloader
