# RSMamba-huge with the output of every block, channels last, as RS4D's feature aggregator takes them.
backbone = dict(
    type='rsfoundation.RSMamba', arch='h', out_type='featmap_hwc', out_indices=list(range(32)))
backbone_channels = [256] * 32
