# Strip R-CNN-S (Yuan et al., arXiv 2501.03775), DIOR-R.
# Reported: nothing in the repository, which ships the settings; a user of them reports 0.43 mAP50.
# Protocol: images of 800 px at a single scale, trainval to train, test to test, 20 classes, angles le90, 8 GPUs x 1
# image, AdamW 1e-4, 12 epochs, stochastic depth 0.1, backbone from ImageNet-1k.
_base_ = [
    '../_base_/backbones/stripnet_s.py',
    '../_base_/heads/strip_rcnn.py',
    '../_base_/datasets/dior_r.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={**_base_.backbone, 'drop_path_rate': 0.1},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=20)))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
