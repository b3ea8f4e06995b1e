# ISPRS Potsdam as distributed (RGB tiles of 6000 px), read as patches of 1024 px without overlap; eroded masks at
# test. The published training files hold each patch flipped horizontally and vertically as well, and patches of many
# cars again: an epoch there has more than three times as many steps. Augmentation: mosaics, scales 0.75 to 1.5, crops
# of 768 px in which no class has three quarters. Validation is on the test tiles, as published: divide the training
# tiles (split=[...]) to choose a checkpoint honestly.
data_root = 'data/potsdam/'

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
    dict(type='RandomCrop', crop_size=(768, 768), cat_max_ratio=0.75),
    dict(type='Pad', size=(768, 768), pad_val=dict(img=0, seg=255)),
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
        type='rsfoundation.PotsdamDataset', split='train', patch=1024,
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.PotsdamDataset', split='test', eroded=True, patch=1024,
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric', clutter='keep')
test_evaluator = val_evaluator
