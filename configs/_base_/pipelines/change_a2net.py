# A2Net's training steps on patches of 256 px: a border of up to 8 px cut off and enlarged again, flips, exchange of the
# dates.
# A config places it: train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomBorderCrop', prob=0.5, max_border=8),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(type='rsfoundation.MultiImgExchangeTime', prob=0.5),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
