# LSKNet-T on ImageNet-1k: the recipe behind the published backbone. Reported: no accuracy, 300 epochs.
# Protocol: 224 px and 300 epochs are published; the rest is what the RSP recipes use (AdamW, cosine, mixup, CutMix,
# label smoothing, RandAugment, erasing), at AdamW 1e-3 for 8 GPUs x 128. Not retrained by us.
_base_ = [
    '../_base_/heads/scene.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/recognition_300e.py',
    '../_base_/runtime/default.py',
]
model = dict(
    backbone=dict(
        type='rsfoundation.LSKNet', arch='t', drop_path_rate=0.1, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    head=dict(num_classes=1000, label_smoothing=0.1),
    data_preprocessor=dict(num_classes=1000, mixup=0.8, cutmix=1.0, erasing=0.25))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(interval=5))
