# HRSID with boxes around its polygons, images of 800 px: 3642 to train, 1962 to validate and to test.
# Otherwise as hrsc2016.py.
_base_ = './hrsc2016.py'

data_root = 'data/hrsid/'

train_dataloader = dict(dataset=dict(type='rsfoundation.HRSIDDataset', data_root=data_root, split='train'))
val_dataloader = dict(dataset=dict(type='rsfoundation.HRSIDDataset', data_root=data_root))
test_dataloader = val_dataloader
