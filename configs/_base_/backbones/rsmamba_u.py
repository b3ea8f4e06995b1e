# RSMamba-uhuge2 of RS4D (arXiv 2606.25324): 48 blocks at stride 16, native image size 1024. All blocks are given, channels
# last, as RS4D's feature aggregator takes them.
backbone = dict(type='rsfoundation.RSMamba', arch='u', out_type='featmap_hwc', out_indices=range(48))
backbone_channels = [256] * 48
