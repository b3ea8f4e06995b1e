# RSP ResNet-50 as in the published segmentation recipes (detection: frozen_stages=1, norm_eval=True).
# The weights are on the authors' drive only: see `rsf info models` for where they go.
backbone = dict(
    type='rsfoundation.RSPResNet',
    depth=50,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='rsp_resnet50-millionaid'))
backbone_channels = [256, 512, 1024, 2048]
