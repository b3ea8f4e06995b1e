# DIOR-R as distributed, images of 800 px: trainval to train, test to validate and to test, which are labelled.
# The papers leave open how their rotation treats round objects; here storage tanks are upright as in DOTA.
# Otherwise as hrsc2016.py.
_base_ = './hrsc2016.py'

data_root = 'data/dior/'

train_dataloader = dict(
    dataset=dict(type='rsfoundation.DIORDataset', data_root=data_root, upright_classes=['storagetank']))
val_dataloader = dict(dataset=dict(type='rsfoundation.DIORDataset', data_root=data_root))
test_dataloader = val_dataloader
