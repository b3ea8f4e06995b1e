# LSKNet-T and a linear head on scenes whose classes are in a table; set data_root and num_classes to yours.
_base_ = ['../../../configs/quickstart/recognition_toy_lsknet_t.py']
custom_imports = dict(imports=['scene_table'], allow_failed_imports=False)
data_root = 'data/scenes/'

model = dict(head=dict(num_classes=2))
train_dataloader = dict(
    dataset=dict(type='rsfoundation.SceneTable', data_root=data_root, table='table.csv', part='train'))
val_dataloader = dict(
    dataset=dict(type='rsfoundation.SceneTable', data_root=data_root, table='table.csv', part='val'))
test_dataloader = val_dataloader
