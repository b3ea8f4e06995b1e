# iSAID by the protocol of RSP: 16 classes with the background, patches of 896 px every 512 px of train and of val.
# The patches of val overlap, as published: pixels count up to four times. For each pixel once, leave stride out in
# val and test.
data_root = 'data/isaid/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='Resize', scale=(896, 896), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(896, 896), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='Pad', size=(896, 896), pad_val=dict(img=0, seg=255)),
    dict(type='rsfoundation.PackSegInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='rsfoundation.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.ISAIDDataset', split='train', patch=896, stride=512,
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.ISAIDDataset', split='val', patch=896, stride=512,
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric')
test_evaluator = val_evaluator
