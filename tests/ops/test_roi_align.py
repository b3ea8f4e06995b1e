import pytest
import torch
from mmcv.ops import RoIAlign

from rsfoundation.ops import RoiGrid, roi_align_average, roi_align_max
from rsfoundation.ops.roi_align import bilinear_taps, pool_samples


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 11, 14, generator=generator, dtype=torch.float64)
    corner = torch.rand(8, 2, generator=generator, dtype=torch.float64) * 24 - 4
    size = torch.rand(8, 2, generator=generator, dtype=torch.float64) * 20
    image = torch.arange(8.0, dtype=torch.float64)[:, None] % 2
    return features, torch.cat([image, corner, corner + size], 1)


@pytest.mark.parametrize("ratio", [0, 2])
def test_average_equals_the_rotated_form_without_rotation(case, ratio):
    features, rois = case
    grid = RoiGrid(0.5, ratio)
    centre, size = (rois[:, 1:3] + rois[:, 3:]) / 2, rois[:, 3:] - rois[:, 1:3]
    rotated = torch.cat([rois[:, :1], centre, size, torch.zeros(8, 1)], 1)
    expected = pool_samples(features, rotated, (3, 2), grid)
    torch.testing.assert_close(roi_align_average(features, rois, (3, 2), grid), expected)
    torch.testing.assert_close(RoIAlign((3, 2), 0.5, ratio)(features, rois), expected)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_gradient_through_mmcv(case, ratio, aligned, mode):
    layer = RoIAlign((2, 3), 0.5, ratio, mode, aligned)
    assert torch.autograd.gradcheck(lambda maps: layer(maps, case[1]), (case[0].requires_grad_(),))


def test_maximum_is_the_largest_sample(case):
    features, rois = case
    pooled = roi_align_max(features, rois, (1, 1), RoiGrid(0.5, 3))
    x0, y0, x1, y1 = (rois[5, 1:] * 0.5 - 0.5).tolist()
    steps = (torch.arange(3, dtype=torch.float64) + 0.5) / 3
    y, x = torch.meshgrid(y0 + steps * (y1 - y0), x0 + steps * (x1 - x0), indexing="ij")
    pixel, weight = bilinear_taps(y.flatten(), x.flatten(), 11, 14)
    samples = (features[1].flatten(1)[:, pixel] * weight).sum(-1)
    torch.testing.assert_close(pooled.values[5, :, 0, 0], samples.max(1).values)
    assert (pooled.y >= y.min()).any()


def test_no_regions(case):
    for mode in ("avg", "max"):
        assert RoIAlign(7, 0.5, 0, mode)(case[0], torch.zeros(0, 5, dtype=torch.float64)).shape == (
            0,
            3,
            7,
            7,
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_single_precision(case, dtype):
    features, rois = case
    maps, regions = features.to(dtype), torch.cat([rois[:, :1], rois[:, 1:] + 772], 1)
    wide = torch.zeros(2, 3, 400, 400)
    wide[..., -11:, -14:] = maps.float()
    half, single = wide.to(dtype).requires_grad_(), wide.to(dtype).float().requires_grad_()
    layer = RoIAlign((3, 2), 0.5, 2)
    pooled, expected = layer(half, regions), layer(single, regions)
    assert pooled.dtype == dtype
    torch.testing.assert_close(pooled.float(), expected, atol=0.02, rtol=0.02)
    (grad,) = torch.autograd.grad(pooled.float().sum(), half)
    (wanted,) = torch.autograd.grad(expected.sum(), single)
    torch.testing.assert_close(grad.float(), wanted, atol=0.02, rtol=0.02)
