# SNUNet with 16 base channels (Fang et al., GRSL 2021) on CDD (SVCD).
# Reported: 94.69 precision, 91.90 recall, 93.27 F1, 87.40 IoU of the changed class, in per cent, on the CDD test set
# (Open-CD's configs).
# Protocol: one confusion matrix over all test pixels, patches of 256 px at a single scale; 1 GPU x 8 pairs, SGD 0.01,
# 120 000 iterations (about 100 epochs).
_base_ = [
    '../_base_/heads/change_full_resolution.py',
    '../_base_/datasets/cdd.py',
    '../_base_/pipelines/change_standard_256.py',
    '../_base_/schedules/change_40k.py',
    '../_base_/runtime/iterations.py',
]

model = dict(
    backbone=dict(type='rsfoundation.SNUNet_ECAM', in_channels=3, base_channel=16),
    decode_head=dict(in_channels=64, channels=64))
train_dataloader = dict(dataset=dict(pipeline={{_base_.train_pipeline}}))

optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='PolyLR', power=1.0, by_epoch=False, begin=1000, end=120000, eta_min=0.0),
]
train_cfg = dict(max_iters=120000)
