# LSKNet-S as in the published detectors: ImageNet-1k weights, dropout and stochastic depth 0.1.
backbone = dict(
    type='rsfoundation.LSKNet',
    arch='s',
    drop_rate=0.1,
    drop_path_rate=0.1,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='lsknet_s-in1k'))
backbone_channels = [64, 128, 320, 512]
