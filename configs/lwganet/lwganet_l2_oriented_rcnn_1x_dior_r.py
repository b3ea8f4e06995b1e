# LWGANet-L2, Oriented R-CNN (Lu et al., arXiv 2501.10040), DIOR-R.
# Reported: 68.53 mAP50 on the DIOR-R test split (20 classes, VOC07 rule).
# Protocol: images of 800 px at a single scale, trainval to train, test to test, angles le90, 8 GPUs x 1 image,
# backbone from ImageNet-1k (300 epochs).
# No settings are published for this number: 12 epochs of AdamW 1e-4 are our choice, those of Strip R-CNN on DIOR-R.
_base_ = [
    '../_base_/backbones/lwganet_l2.py',
    '../_base_/heads/oriented_rcnn.py',
    '../_base_/datasets/dior_r.py',
    '../_base_/schedules/1x_adamw.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    neck=dict(in_channels={{_base_.backbone_channels}}),
    roi_head=dict(bbox_head=dict(num_classes=20)))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
