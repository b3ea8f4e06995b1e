# LWGANet-L0 (1.33 M parameters): ImageNet-1k weights, no stochastic depth.
backbone = dict(
    type='rsfoundation.LWGANet',
    arch='l0',
    drop_path_rate=0.0,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='lwganet_l0-in1k'))
backbone_channels = [32, 64, 128, 256]
