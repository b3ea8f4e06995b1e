# WHU Building, aerial tiles of 512 px: 4736 to train, 2416 to test; published results are on the test split.
# `rsf prepare instances whu data/whu_building --split train -o data/whu_building/annotations/WHU_building_train.json`
# writes the annotations, likewise for test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
data_root = 'data/whu_building/'

_dataset = dict(type='rsfoundation.WHUInsSegDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset,
        ann_file='annotations/WHU_building_train.json',
        data_prefix=dict(img='train/image/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32)))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset,
        ann_file='annotations/WHU_building_test.json',
        data_prefix=dict(img='test/image/'),
        test_mode=True))
test_dataloader = val_dataloader

val_evaluator = dict(type='rsfoundation.CocoMetric', metric=['bbox', 'segm'])  # on the data set's annotations
test_evaluator = val_evaluator
