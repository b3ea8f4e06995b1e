# Flips and quarter turns alone (RSP's BIT).
# A config places it: train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))
train_pipeline = [
    dict(type='rsfoundation.MultiImgLoadImageFromFile'),
    dict(type='rsfoundation.MultiImgLoadAnnotations'),
    dict(type='rsfoundation.MultiImgRandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='rsfoundation.MultiImgRandomRotFlip', rotate_prob=0.0, flip_prob=0.5),
    dict(type='rsfoundation.MultiImgPackSegInputs'),
]
