# iSAID, objects of DOTA's images, in patches of 896 px that overlap by 384, with the json of its toolkit. The labels of
# the test split are withheld: results are on the validation patches.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
data_root = 'data/isaid/'

_dataset = dict(type='rsfoundation.ISAIDInsSegDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/images/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32)))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/images/'),
        test_mode=True))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.CocoMetric', metric=['bbox', 'segm'])  # on the data set's annotations
test_evaluator = val_evaluator
