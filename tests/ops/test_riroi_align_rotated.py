import math

import pytest
import torch
from mmcv.ops import RiRoIAlignRotated

from rsfoundation.ops import RoiGrid, roi_align_rotated
from rsfoundation.ops.checks import OperatorInputError

ORIENTATIONS = 4


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 2 * ORIENTATIONS, 9, 8, dtype=torch.float64, generator=generator)


def regions(*angles):
    return torch.tensor([[i % 2, 9.0 + i, 8.0, 7.0, 0.5 + 3 * i, angle] for i, angle in enumerate(angles)])


@pytest.mark.parametrize("clockwise", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
def test_equals_the_definition(features, clockwise, samples):
    rois = regions(0.0, 0.4, math.pi / 2, 3.0, -0.7, -3.1).double()
    out = RiRoIAlignRotated((3, 2), 0.5, samples, ORIENTATIONS, clockwise)(features, rois)
    plain = roi_align_rotated(features, rois, (3, 2), RoiGrid(0.5, samples, False, clockwise))
    for n, angle in enumerate(rois[:, 5].tolist()):
        turns = angle * ORIENTATIONS / (2 * math.pi)
        whole = math.floor(turns)
        for channel in range(2):
            for o in range(ORIENTATIONS):
                source = [channel * ORIENTATIONS + (o - whole + k) % ORIENTATIONS for k in (0, 1)]
                share = turns - whole
                expected = (1 - share) * plain[n, source[0]] + share * plain[n, source[1]]
                torch.testing.assert_close(out[n, channel * ORIENTATIONS + o], expected)


def test_gradient(features):
    layer = RiRoIAlignRotated((2, 2), 0.5, 2, ORIENTATIONS)
    rois = regions(0.4, -2.0, 3.0).double()
    assert torch.autograd.gradcheck(lambda maps: layer(maps, rois), (features.requires_grad_(),))


def test_no_regions_and_wrong_channels(features):
    layer = RiRoIAlignRotated((2, 2), 0.5, 2, ORIENTATIONS)
    assert layer(features, torch.zeros(0, 6, dtype=torch.float64)).shape == (0, 8, 2, 2)
    with pytest.raises(OperatorInputError, match="7 channels"):
        layer(features[:, :7], regions(0.1).double())
