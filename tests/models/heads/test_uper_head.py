"""UPerNet's head: mmseg's, but for batches that leave one value per channel."""

import pytest
import torch
from mmseg.models.decode_heads import UPerHead as MMSegUPerHead

from rsfoundation.models.heads.uper_head import UPerHead

OPTIONS = dict(
    in_channels=[4, 8],
    in_index=[0, 1],
    channels=8,
    num_classes=3,
    dropout_ratio=0,
    norm_cfg=dict(type="BN"),
)


def pair():
    torch.manual_seed(0)
    theirs, ours = MMSegUPerHead(**OPTIONS), UPerHead(**OPTIONS)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def maps(count):
    return [torch.randn(count, 4, 8, 8), torch.randn(count, 8, 4, 4)]


@pytest.mark.parametrize("training", [True, False])
def test_equals_mmseg_where_mmseg_works(training):
    theirs, ours = (head.train(training) for head in pair())
    levels = maps(2)
    assert torch.equal(ours(levels), theirs(levels))
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), theirs.buffers(), strict=True))


def test_one_image_trains_where_mmseg_stops():
    theirs, ours = (head.train() for head in pair())
    levels = maps(1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs(levels)
    pooled = ours.psp_modules[0][1].bn
    before = pooled.running_mean.clone()
    ours(levels).sum().backward()
    assert torch.equal(pooled.running_mean, before)
    assert all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)
