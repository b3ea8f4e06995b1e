# ISPRS Potsdam by the protocol of RSP: five classes, clutter is ignored in training and removed from the matrix at
# test; masks with boundaries (5_Labels_all); patches of 512 px to train, every 256 px as in mmseg's converter; whole
# tiles at test, in windows of 512 px every 384 px. Masks of mmseg's converter count from 1 (0: boundary) and need
# reduce_zero_label=True: a mix-up costs one or two points.
data_root = 'data/potsdam/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.LoadSegmentationMask'),
    dict(type='RandomResize', scale=(512, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='Pad', size=(512, 512), pad_val=dict(img=0, seg=255)),
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
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.PotsdamDataset', split='train', patch=512, stride=256,
        metainfo=dict(classes=('impervious_surface', 'building', 'low_vegetation', 'tree', 'car')),
        data_root=data_root,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.PotsdamDataset', split='test',
        metainfo=dict(classes=('impervious_surface', 'building', 'low_vegetation', 'tree', 'car')),
        data_root=data_root,
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.SegmentationMetric')
test_evaluator = val_evaluator
