# What every COCO-format data set of instances shares: loaders and metric. A file next to this one sets `data_root`, the
# class of the data set, its annotations and its images.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.CocoMetric', metric=['bbox', 'segm'])  # on the data set's annotations
test_evaluator = val_evaluator
