# UAVid as distributed: uavid_train and uavid_val to train, as patches of 1024 px; uavid_test (without masks) for the
# server: `rsf test CONFIG --format-only`. Augmentation: mosaics, flips both ways, brightness and contrast. uavid_val
# is trained on, as published: its metrics only show that training works. split='uavid_train' to measure on it.
data_root = 'data/uavid/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.Mosaic', prob=0.25),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(
        type='rsfoundation.RandomBrightnessContrast', brightness=0.25, contrast=0.25, prob=0.25),
    dict(type='rsfoundation.PackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=6,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.UAVidDataset', split=['uavid_train', 'uavid_val'], patch=1024,
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.UAVidDataset', split='uavid_val',
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric')
test_evaluator = val_evaluator
# what `rsf test CONFIG --format-only` writes an archive of
submission = dict(split='uavid_test')
