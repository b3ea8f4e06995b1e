# The images of the toy detection scenes without labels: crops of 128 px of the training scenes, the middle of the
# held-out ones (`rsf prepare toy data/toy --task detection --train 400`).
data_root = 'data/toy/detection/'
_dataset = dict(type='rsfoundation.UnlabelledImages', window=256, metainfo=dict(classes=('unlabelled',)))

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=128, scale=(0.2, 0.6)),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.PackSceneInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='CenterCrop', crop_size=(128, 128)),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**_dataset, data_root=data_root + 'train/images/', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**_dataset, data_root=data_root + 'val/images/', pipeline=test_pipeline))
test_dataloader = val_dataloader
