# EuroSAT with the 13 bands of Sentinel-2 (B01 to B12, then B8A), reflectance as stored.
data_root = 'data/EuroSAT_MS/'

train_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile', bands='all', pixel_range='native', to_float32=True),
    dict(type='rsfoundation.RandomResizedCrop', size=64),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.PackSceneInputs'),
]
test_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile', bands='all', pixel_range='native', to_float32=True),
    dict(type='rsfoundation.CentralCrop', size=64, share=1.0),
    dict(type='rsfoundation.PackSceneInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='rsfoundation.EuroSAT', data_root=data_root, split='train', train_ratio=0.8, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='rsfoundation.EuroSAT', data_root=data_root, split='val', train_ratio=0.8,
        test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='rsfoundation.SceneMetric')
test_evaluator = val_evaluator
