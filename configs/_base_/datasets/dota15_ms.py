# DOTA-1.5 (the images of 1.0 labelled anew, 16 classes) cut at three scales as in dota_ms.py. Everything else as in
# dota_ss.py.
_base_ = './dota_ss.py'

data_root = 'data/dota15/'

train_dataloader = dict(dataset=dict(data_root=data_root, split='ms/trainval', version='1.5', preset='ms'))
val_dataloader = dict(dataset=dict(data_root=data_root, split='ms/val', version='1.5', preset='ms'))
test_dataloader = val_dataloader
submission = dict(split='ms/test')
