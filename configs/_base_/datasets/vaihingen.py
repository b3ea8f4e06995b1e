# ISPRS Vaihingen as distributed (IRRG tiles of about 2500 x 2000 px), read as patches of 1024 px: every 512 px in
# training, without overlap at test, on eroded masks. The published training files hold each patch flipped
# horizontally and vertically as well, and patches of many cars again: an epoch there has more than three times as
# many steps. Augmentation: mosaics, scales 0.5 to 1.5, crops of 512 px in which no class has three quarters, quarter
# turns. Validation is on the test tiles, as published: divide the training tiles (split=[...]) to choose a checkpoint
# honestly.
data_root = 'data/vaihingen/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.Mosaic', prob=0.25),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='Resize', scale_factor=0.5, keep_ratio=True)],
            [dict(type='Resize', scale_factor=0.75, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.0, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.25, keep_ratio=True)],
            [dict(type='Resize', scale_factor=1.5, keep_ratio=True)],
        ]),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='Pad', size=(512, 512), pad_val=dict(img=0, seg=255)),
    dict(type='rsfoundation.RandomQuarterTurn', prob=0.5),
    dict(type='rsfoundation.PackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.VaihingenDataset', split='train', patch=1024, stride=512,
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.VaihingenDataset', split='test', eroded=True, patch=1024,
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric', clutter='keep')
test_evaluator = val_evaluator
