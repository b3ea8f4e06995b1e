# SimMIM on LSKNet-T: 400 toy scenes without labels, crops of 128 px, 500 iterations of 16 on two CPU cores.
#   rsf prepare toy data/toy --task detection --train 400
# A model of any task starts from it by one line in its config:
#   model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/RUN/epoch_20.pth')))
_base_ = [
    '../_base_/backbones/lsknet_t_scratch.py',
    '../_base_/heads/masked_image.py',
    '../_base_/datasets/toy_unlabelled.py',
    '../_base_/schedules/toy_pretraining.py',
    '../_base_/runtime/default.py',
]
model = dict(type='rsfoundation.SimMIM', backbone={{_base_.backbone}})
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5, save_best=None))
