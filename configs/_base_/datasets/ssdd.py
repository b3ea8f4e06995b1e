# SSDD, ships in SAR images: 928 images (2102 objects) to train, 232 (484) to validate and to test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
_base_ = './coco_format.py'

data_root = 'data/ssdd/'
_dataset = dict(type='rsfoundation.SSDDInsSegDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/SSDD_instances_train.json', data_prefix=dict(img='imgs/')))
val_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/SSDD_instances_val.json', data_prefix=dict(img='imgs/')))
test_dataloader = val_dataloader
