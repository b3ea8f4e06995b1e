# StripNet-S as in the published detectors: ImageNet-1k weights, dropout 0.1, stochastic depth 0.15.
# (Stochastic depth is 0.1 on DIOR, FAIR1M, HRSC2016.) The weights are on the authors' drive only: `rsf info models`.
backbone = dict(
    type='rsfoundation.StripNet',
    arch='s',
    drop_rate=0.1,
    drop_path_rate=0.15,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='stripnet_s-in1k'))
backbone_channels = [64, 128, 320, 512]
