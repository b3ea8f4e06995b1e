# LWGANet-L1 (5.20 M parameters): ImageNet-1k weights, stochastic depth 0.1 (change detection recipes: 0).
backbone = dict(
    type='rsfoundation.LWGANet',
    arch='l1',
    drop_path_rate=0.1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='lwganet_l1-in1k'))
backbone_channels = [64, 128, 256, 512]
