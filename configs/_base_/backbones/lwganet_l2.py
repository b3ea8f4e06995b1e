# LWGANet-L2 (12.0 M parameters): ImageNet-1k weights, stochastic depth 0.1.
backbone = dict(
    type='rsfoundation.LWGANet',
    arch='l2',
    drop_path_rate=0.1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='lwganet_l2-in1k'))
backbone_channels = [96, 192, 384, 768]
