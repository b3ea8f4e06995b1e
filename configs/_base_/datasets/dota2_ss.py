# DOTA-2.0 (18 classes) cut at one scale. Everything else as in dota_ss.py.
_base_ = './dota_ss.py'

data_root = 'data/dota2/'

train_dataloader = dict(dataset=dict(data_root=data_root, version='2.0'))
val_dataloader = dict(dataset=dict(data_root=data_root, version='2.0'))
test_dataloader = val_dataloader
