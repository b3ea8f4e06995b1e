# LWGANet-L0 from random weights: for short trainings on toy scenes.
# The empty init_cfg lets a config start from the backbone of another run, as in lsknet_t_scratch.py.
_base_ = './lwganet_l0.py'

backbone = dict(init_cfg=dict(_delete_=True))
