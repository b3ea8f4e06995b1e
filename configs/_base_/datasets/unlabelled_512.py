# Every image and scene below data/unlabelled/: windows of 512 px, crops of 192 px.
data_root = 'data/unlabelled/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=192, scale=(0.1, 1.0)),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='rsfoundation.UnlabelledImages', data_root=data_root, window=512, pipeline=train_pipeline))
