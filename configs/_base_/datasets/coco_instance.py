# COCO 2017, 80 classes: 118 287 images to train, 5 000 to validate and to test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
_base_ = './coco_format.py'

data_root = 'data/coco/'
_dataset = dict(type='rsfoundation.CocoInstanceDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/')))
val_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017/')))
test_dataloader = val_dataloader
