# RSMamba-huge of RS4D (arXiv 2606.25324): 32 blocks, native image size 1024, grown into strides 4 to 32.
# Four maps a quarter of the depth apart, all at stride 16, become the four strides that heads expect.
backbone = dict(
    type='rsfoundation.PlainPyramid',
    encoder=dict(type='rsfoundation.RSMamba', arch='h', out_type='featmap', out_indices=[7, 15, 23, 31]),
    norm_cfg=dict(type='SyncBN', requires_grad=True))
backbone_channels = [256, 256, 256, 256]
