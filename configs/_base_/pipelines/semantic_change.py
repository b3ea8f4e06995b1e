# Training steps of Open-CD's semantic change detection on SECOND: flips, exchange of the dates, colours of each date by
# itself.
# A config places it: train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgMultiAnnLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomCrop', crop_size=(256, 384), cat_max_ratio=0.95),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(type='rsfoundation.MultiImgExchangeTime', prob=0.5),
    dict(
        type='rsfoundation.MultiImgPhotoMetricDistortion',
        brightness_delta=10,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=10),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
