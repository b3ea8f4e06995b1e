# LSKNet-T from random weights, without dropout and stochastic depth: for short trainings on toy scenes.
_base_ = './lsknet_t.py'

backbone = dict(drop_rate=0.0, drop_path_rate=0.0, init_cfg=None)
