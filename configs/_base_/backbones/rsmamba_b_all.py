# RSMamba-base with the output of every block, channels last, as RS4D's feature aggregator takes them.
_base_ = './rsmamba_b.py'

backbone = dict(out_type='featmap_hwc', out_indices=list(range(24)))
backbone_channels = [256] * 24
