# NWPU VHR-10 with masks, RSPrompter's split: 520 images (3178 objects) to train, 130 (743) to validate and to test.
# A config places the steps, from ../pipelines/instance_1024.py or _512.py.
_base_ = './coco_format.py'

data_root = 'data/nwpu_vhr10/'
_dataset = dict(type='rsfoundation.NWPUInsSegDataset', data_root=data_root)
train_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/NWPU_instances_train.json', data_prefix=dict(img='imgs/')))
val_dataloader = dict(
    dataset=dict(**_dataset, ann_file='annotations/NWPU_instances_val.json', data_prefix=dict(img='imgs/')))
test_dataloader = val_dataloader
