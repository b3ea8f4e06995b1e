# WHU Building, aerial tiles of 512 px: 4736 to train, 2416 to test; published results are on the test split.
# `rsf prepare instances whu data/whu_building --split train -o data/whu_building/annotations/WHU_building_train.json`
# writes the annotations, likewise for test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
_base_ = './coco_format.py'

data_root = 'data/whu_building/'
_dataset = dict(type='rsfoundation.WHUInsSegDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/WHU_building_train.json', data_prefix=dict(img='train/image/')))
val_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/WHU_building_test.json', data_prefix=dict(img='test/image/')))
test_dataloader = val_dataloader
