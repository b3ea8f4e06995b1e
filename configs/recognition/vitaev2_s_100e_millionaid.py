# RSP-ViTAEv2-S on MillionAID, 51 classes. Reported: acc@1 98.97, acc@5 99.88 (README of RSP).
# Protocol: 224 px, AdamW 5e-4, weight decay 0.05, cosine over 100 epochs, clipping at 5, mixup 0.8, CutMix 1.0, label
# smoothing 0.1, RandAugment 9, erasing 0.25; 4 GPUs x 128. The authors' validation split is not published: 5 % here.
# The published classifier is tested as it is by
#   --cfg-options "model.init_cfg.type=Pretrained" "model.init_cfg.checkpoint=FILE"
# if metainfo.classes has the authors' order of classes. Not retrained by us.
_base_ = [
    '../_base_/heads/scene.py',
    '../_base_/datasets/millionaid.py',
    '../_base_/schedules/recognition_100e.py',
    '../_base_/runtime/default.py',
]
model = dict(
    backbone=dict(
        type='rsfoundation.ViTAEv2', arch='s', drop_path_rate=0.0, norm_cfg=dict(type='SyncBN', requires_grad=True)),
    head=dict(num_classes=51, label_smoothing=0.1),
    data_preprocessor=dict(num_classes=51, mixup=0.8, cutmix=1.0, erasing=0.25))
default_hooks = dict(checkpoint=dict(interval=5))
