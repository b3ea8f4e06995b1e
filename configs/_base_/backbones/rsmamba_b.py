# RSMamba-base of RS4D (arXiv 2606.25324): 24 blocks, native image size 1024. Four maps a quarter of the depth apart, all
# at stride 16: set the strides of anchors and RoI extractors to 16 with them, or grow a pyramid (rsfoundation.RSSimpleFPN).
backbone = dict(
    type='rsfoundation.RSMamba', arch='b', out_type='featmap', out_indices=[5, 11, 17, 23])
backbone_channels = [256, 256, 256, 256]
