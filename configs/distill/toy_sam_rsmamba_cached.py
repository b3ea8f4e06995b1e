# As toy_sam_rsmamba.py, with the teacher's maps read from a cache: whole scenes of 256 px, no flips.
#   rsf prepare toy data/toy --task detection --train 400
#   rsf prepare features distill/toy_sam_rsmamba_cached -o data/features/toy
_base_ = 'toy_sam_rsmamba.py'

_teacher = _base_.model.teacher
_teacher.update(image_size=256)
_pipeline = [
    dict(type='rsfoundation.LoadImageFromFile'),
    dict(type='rsfoundation.ImageKey'),
    dict(type='rsfoundation.PackSceneInputs'),
]
model = dict(
    teacher=dict(_delete_=True, type='rsfoundation.CachedFeatures', root='data/features/toy', teacher=_teacher),
    backbone=dict(img_size=256))
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(pipeline=_pipeline))
test_dataloader = val_dataloader
