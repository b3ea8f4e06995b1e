# For networks that go from the pair to one map at full resolution (FC-EF, FC-Siam, SNUNet): a 1x1 classifier on it. A
# config names the network and its output channels:
#   model = dict(
#       backbone=dict(type='rsfoundation.FC_EF', in_channels=6, base_channel=16),
#       decode_head=dict(in_channels=16, channels=16))
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

model = dict(
    type='rsfoundation.DIEncoderDecoder',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    decode_head=dict(
        type='FCNHead',
        in_index=-1,
        num_convs=0,
        concat_input=False,
        num_classes=2,
        out_channels=2,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
