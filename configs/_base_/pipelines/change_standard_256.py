# Open-CD's training steps for most methods: any rotation, crops of 256 px, flips, colours of each date by itself.
# A config places it: train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomRotate', prob=0.5, degree=180),
    dict(type='rsfoundation.MultiImgRandomCrop', crop_size=(256, 256), cat_max_ratio=0.75),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(
        type='rsfoundation.MultiImgPhotoMetricDistortion',
        brightness_delta=10,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=10),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
