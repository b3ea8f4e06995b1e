# Scene classification with LSKNet-T on a folder-per-class data set; set the number of classes to yours.
_base_ = ['../../../configs/_base_/backbones/lsknet_t.py', '../../../configs/_base_/runtime/default.py']
custom_imports = dict(imports=['scene_classification'], allow_failed_imports=False)
default_scope = 'mmengine'
task = dict(type='rsfoundation.SceneClassification')
data_root = 'data/scenes/'
model = dict(type='rsfoundation.MeanPoolClassifier', backbone={{_base_.backbone}}, num_classes=2)

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='rsfoundation.SceneFolders', data_root=data_root + 'train'))
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='rsfoundation.SceneFolders', data_root=data_root + 'val'))
test_dataloader = val_dataloader
val_evaluator = dict(type='rsfoundation.SceneAccuracy')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05))
