# LSKNet-T, UNetFormer, on UAVid (Li et al., IJCV 2024).
# Reported: 69.3 mIoU, in per cent, on the uavid_test of UAVid.
# Protocol: the server's, on uavid_test: mIoU of eight classes with clutter. 4 passes at test (`--tta`): flips both
# ways, mean of logits. Frames in windows of 1152 x 1024 px.
# Training: 1 GPU x 6 images, AdamW within Lookahead 1e-3, 40 epochs, ImageNet-1k weights.
_base_ = [
    '../_base_/backbones/lsknet_t.py',
    '../_base_/heads/unetformer.py',
    '../_base_/datasets/uavid.py',
    '../_base_/schedules/segmentation_40e.py',
    '../_base_/runtime/default.py',
]

model = dict(
    backbone={{_base_.backbone}},
    decode_head=dict(in_channels={{_base_.backbone_channels}}, num_classes=8),
    test_cfg=dict(mode='slide', crop_size=(1152, 1024), stride=(1152, 1024)))
tta = dict(flips=(None, 'horizontal', 'vertical', 'diagonal'), average='logits')
predict = dict(window=1024, overlap=256)
