# RSP Swin-T as in the published segmentation recipes (detection: drop_rate=0.3, frozen_stages=2).
# The weights are on the authors' drive only: see `rsf info models` for where they go.
backbone = dict(
    type='rsfoundation.RSPSwinTransformer',
    arch='t',
    drop_path_rate=0.3,
    init_cfg=dict(type='Pretrained', checkpoint='rsp_swin_t-millionaid'))
backbone_channels = [96, 192, 384, 768]
