# LoveDA as distributed, images of 1024 px: Train and Val to train, Test (without masks) for the server: `rsf test
# CONFIG --format-only`. Augmentation: mosaics, scales 0.75 to 1.5, crops of 512 px in which no class has three
# quarters, horizontal flips. Val is trained on, as published: its metrics only show that training works.
# split='Train' to measure on it.
data_root = 'data/loveda/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.Mosaic', prob=0.25),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='Resize', scale_factor=0.75, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.0, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.25, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.5, keep_ratio=True)],
        ]),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='Pad', size=(512, 512), pad_val=dict(img=0, seg=255)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='rsfoundation.PackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.LoveDADataset', split=['Train', 'Val'],
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.LoveDADataset', split='Val',
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric')
test_evaluator = val_evaluator
# what `rsf test CONFIG --format-only` writes an archive of
submission = dict(split='Test')
