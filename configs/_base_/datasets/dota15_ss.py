# DOTA-1.5 (the images of 1.0 labelled anew, 16 classes) cut at one scale. Everything else as in dota_ss.py.
_base_ = './dota_ss.py'

data_root = 'data/dota15/'

train_dataloader = dict(dataset=dict(data_root=data_root, version='1.5'))
val_dataloader = dict(dataset=dict(data_root=data_root, version='1.5'))
test_dataloader = val_dataloader
