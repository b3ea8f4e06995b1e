# A2Net (Li et al., TGRS 2023): masks from the differences of neighbouring levels, supervised at every level by cross
# entropy and dice. It reads the channels off its backbone. A config places it:
#   model = dict(backbone={{_base_.backbone}})
default_scope = 'mmseg'
task = dict(type='rsfoundation.ChangeDetection')

model = dict(
    type='rsfoundation.A2Net',
    data_preprocessor=dict(
        type='rsfoundation.DualInputSegDataPreProcessor',
        mean=[123.675, 116.28, 103.53] * 2,
        std=[58.395, 57.12, 57.375] * 2,
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
        test_cfg=dict(size_divisor=32)),
    mid=64,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
