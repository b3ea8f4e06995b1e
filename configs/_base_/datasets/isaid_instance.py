# iSAID, objects of DOTA's images, in patches of 896 px that overlap by 384, with the json of its toolkit. The labels of
# the test split are withheld: results are on the validation patches.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
_base_ = './coco_format.py'

data_root = 'data/isaid/'
_dataset = dict(type='rsfoundation.ISAIDInsSegDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/instances_train.json', data_prefix=dict(img='train/images/')))
val_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/instances_val.json', data_prefix=dict(img='val/images/')))
test_dataloader = val_dataloader
