# CLAFA's training steps on patches of 256 px: exchange of the dates, flips, quarter turns, a part of the patch
# enlarged.
# A config places it: train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgExchangeTime', prob=0.5),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='horizontal'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.5, direction='vertical'),
    dict(type='rsfoundation.MultiImgRandomRotFlip', rotate_prob=0.0, flip_prob=0.5),
    dict(type='rsfoundation.MultiImgRandomResizedCrop', prob=0.5, scale=(1 / 3, 1.0)),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
