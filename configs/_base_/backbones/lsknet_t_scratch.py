# LSKNet-T from random weights, without dropout and stochastic depth: for short trainings on toy scenes.
# The empty init_cfg lets a config start from the backbone of another run, of any task, by one line:
#   model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='work_dirs/RUN/NAME.pth')))
_base_ = './lsknet_t.py'

backbone = dict(drop_rate=0.0, drop_path_rate=0.0, init_cfg=dict(_delete_=True))
