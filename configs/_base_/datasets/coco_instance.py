# COCO 2017, 80 classes: 118 287 images to train, 5 000 to validate and to test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
data_root = 'data/coco/'

_dataset = dict(type='rsfoundation.CocoInstanceDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32)))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.CocoMetric', metric=['bbox', 'segm'])  # on the data set's annotations
test_evaluator = val_evaluator
