"""Regions keep their place under mixed precision."""

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as Upstream
from mmengine.config import ConfigDict

from rsfoundation.models.heads.oriented import RotatedSingleRoIExtractor, SingleRoIExtractor

PARTS = dict(out_channels=1, featmap_strides=[4, 8])
UPRIGHT = ConfigDict(type="RoIAlign", output_size=3, sampling_ratio=2)
ROTATED = ConfigDict(type="RoIAlignRotated", output_size=3, sampling_ratio=2, clockwise=True)


def ramps(side=256):
    """Maps whose value is the x of the image, so that pooling tells where a region is."""
    return [((torch.arange(side // s) + 0.5) * 4 * s).expand(1, 1, side // s, -1) for s in (1, 2)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pooling_under_half_types_is_that_of_single_precision(dtype):
    upright = torch.tensor([[0, 801.3, 700.1, 842.7, 722.9], [0, 601.0, 400, 900, 650.6]])
    rotated = torch.tensor([[0, 801.3, 700.1, 42.7, 22.9, 0.3], [0, 601.0, 400, 300, 250.6, -1.0]])
    for extractor, rois in (
        (SingleRoIExtractor(UPRIGHT, **PARTS), upright),
        (RotatedSingleRoIExtractor(ROTATED, **PARTS), rotated),
    ):
        maps = [level.to(dtype) for level in ramps()]
        pooled = extractor(maps, rois)
        expected = extractor([level.float() for level in maps], rois)
        assert pooled.dtype == dtype
        torch.testing.assert_close(pooled, expected.to(dtype))


def test_upstream_moves_regions():
    """What the class is for: without it a region of x 802 to 842 is read two pixels further left."""
    rois = torch.tensor([[0, 801.9, 700.1, 841.9, 722.9]])
    maps = [(level - 820).bfloat16() for level in ramps()]
    ours, theirs = (
        kind(UPRIGHT, **PARTS)(maps, rois).float().mean() for kind in (SingleRoIExtractor, Upstream)
    )
    assert ours == pytest.approx(821.9 - 820, abs=0.1)
    assert theirs == pytest.approx(820 - 820, abs=0.1)


def test_single_precision_is_left_as_it_is():
    rois = torch.tensor([[0, 20.0, 30, 90, 60]])
    one, other = SingleRoIExtractor(UPRIGHT, **PARTS), Upstream(UPRIGHT, **PARTS)
    assert torch.equal(one(ramps(), rois), other(ramps(), rois))
