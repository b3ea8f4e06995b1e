# RSP ViTAEv2-S as in the published segmentation recipes (detection: frozen_stages=1, norm_eval=True).
# The weights are on the authors' drive only: see `rsf info models` for where they go.
backbone = dict(
    type='rsfoundation.ViTAEv2',
    arch='s',
    drop_path_rate=0.3,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    init_cfg=dict(type='Pretrained', checkpoint='vitaev2_s-millionaid'))
backbone_channels = [64, 128, 256, 512]
