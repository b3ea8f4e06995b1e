# The images of the toy detection scenes, without their labels (`rsf prepare toy --task detection --train 400`).
data_root = 'data/toy/detection/train/images/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.RandomResizedCrop', size=128, scale=(0.2, 0.6)),
    dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='rsfoundation.UnlabelledImages', data_root=data_root, window=256, pipeline=train_pipeline))
