# LSKNet-T as in the published detectors: ImageNet-1k weights, dropout and stochastic depth 0.1.
backbone = dict(
    type='rsfoundation.LSKNet',
    arch='t',
    drop_rate=0.1,
    drop_path_rate=0.1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='lsknet_t-in1k'))
backbone_channels = [32, 64, 160, 256]
