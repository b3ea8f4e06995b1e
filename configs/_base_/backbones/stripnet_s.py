# StripNet-S as in the published detectors: ImageNet-1k weights (on the authors' drive only, so none are named
# here; give init_cfg a local file), dropout 0.1 and stochastic depth 0.15 (0.1 on DIOR, FAIR1M and HRSC2016).
backbone = dict(
    type='rsfoundation.StripNet',
    arch='s',
    drop_rate=0.1,
    drop_path_rate=0.15,
    norm_cfg=dict(type='SyncBN', requires_grad=True))
backbone_channels = [64, 128, 320, 512]
