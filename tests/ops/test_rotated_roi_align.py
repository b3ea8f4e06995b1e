import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlignRotated

from rsfoundation.ops import RoiGrid, roi_align_rotated
from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.roi_align import pool_samples, spread_samples
from rsfoundation.ops.rotated_roi_align import pool_rotated, spread_rotated


def sample(image, y, x):
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(image))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = image[:, y0, x0] * (x0 + 1 - x) + image[:, y0, x1] * (x - x0)
    bottom = image[:, y1, x0] * (x0 + 1 - x) + image[:, y1, x1] * (x - x0)
    return top * (y0 + 1 - y) + bottom * (y - y0)


def reference(features, rois, size, grid):
    """The definition, sample by sample."""
    out = np.zeros((len(rois), features.shape[1], *size))
    shift = 0.5 if grid.aligned else 0.0
    for n, (image, cx, cy, w, h, theta) in enumerate(rois):
        cx, cy = cx * grid.spatial_scale - shift, cy * grid.spatial_scale - shift
        w, h = w * grid.spatial_scale, h * grid.spatial_scale
        if not grid.aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        theta = theta if grid.clockwise else -theta
        gh = grid.sampling_ratio or math.ceil(np.float32(h / size[0]))
        gw = grid.sampling_ratio or math.ceil(np.float32(w / size[1]))
        for row, column, iy, ix in np.ndindex(*size, gh, gw):
            v = -h / 2 + (row + (iy + 0.5) / gh) * h / size[0]
            u = -w / 2 + (column + (ix + 0.5) / gw) * w / size[1]
            x = cx + u * math.cos(theta) - v * math.sin(theta)
            y = cy + u * math.sin(theta) + v * math.cos(theta)
            out[n, :, row, column] += sample(features[int(image)], y, x) / (gh * gw)
    return out


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 12, 17))
    rois = np.stack(
        [
            rng.integers(0, 2, 12).astype(float),
            rng.uniform(-8, 40, 12),
            rng.uniform(-8, 30, 12),
            rng.uniform(0, 40, 12),
            rng.uniform(0, 40, 12),
            rng.uniform(-4, 4, 12),
        ],
        1,
    )
    return features, rois


@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("clockwise", [True, False])
def test_equals_the_definition(case, ratio, aligned, clockwise):
    grid = RoiGrid(0.5, ratio, aligned, clockwise)
    expected = reference(*case, (3, 4), grid)
    features, rois = map(torch.tensor, case)
    np.testing.assert_allclose(pool_rotated(features, rois, (3, 4), grid).numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(pool_samples(features, rois, (3, 4), grid).numpy(), expected, atol=1e-12)
    layer = RoIAlignRotated((3, 4), 0.5, ratio, aligned, clockwise)
    np.testing.assert_allclose(layer(features, rois).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("ratio", [0, 2])
def test_gradient(case, ratio):
    features, rois = torch.tensor(case[0]).requires_grad_(), torch.tensor(case[1])
    layer = RoIAlignRotated((3, 2), 0.5, ratio, clockwise=True)
    assert torch.autograd.gradcheck(lambda maps: layer(maps, rois), (features,))
    grid = RoiGrid(0.5, ratio)
    assert torch.autograd.gradcheck(lambda maps: roi_align_rotated(maps, rois, (3, 2), grid), (features,))


@pytest.mark.parametrize("rows", [4, 2000])  # below and above the count at which maps are transposed
def test_backward_is_the_adjoint_in_both_layouts(rows):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 5, 64, 48, generator=generator, dtype=torch.float64)
    rois = torch.rand(rows, 6, generator=generator, dtype=torch.float64) * torch.tensor(
        [2, 96, 128, 30, 30, 6.0]
    )
    rois[:, 0] = rois[:, 0].floor()
    grid = RoiGrid(0.5, 2)
    out = pool_rotated(features, rois, (2, 2), grid)
    grad = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    back = spread_rotated(grad, rois, features.shape, grid)
    assert (out * grad).sum().item() == pytest.approx((features * back).sum().item())
    torch.testing.assert_close(back, spread_samples(grad, rois, features.shape, grid))
    torch.testing.assert_close(out, pool_samples(features, rois, (2, 2), grid))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_keeps_the_type(dtype):
    features, rois = torch.ones(1, 2, 8, 8, dtype=dtype), torch.tensor([[0, 4, 4, 2, 2, 0.3]], dtype=dtype)
    out = pool_rotated(features, rois, (2, 2), RoiGrid(1.0, 2))
    assert out.dtype == dtype
    torch.testing.assert_close(out, torch.ones_like(out))


def test_no_regions():
    features, rois = torch.rand(1, 2, 8, 8, requires_grad=True), torch.zeros(0, 6)
    out = roi_align_rotated(features, rois, (7, 7), RoiGrid(1.0))
    out.sum().backward()
    assert out.shape == (0, 2, 7, 7)
    assert features.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ([1, 4, 4, 2, 2, 0], "batch of 1"),
        ([0, 4, 4, -2, 2, 0], "zero or more"),
    ],
)
def test_rejects(roi, message):
    with pytest.raises(OperatorInputError, match=message):
        pool_rotated(torch.rand(1, 2, 8, 8), torch.tensor([roi]), (2, 2), RoiGrid(1.0))


@settings(deadline=None, max_examples=40)
@given(
    st.floats(-3, 12),
    st.floats(-3, 12),
    st.floats(0, 9),
    st.floats(0, 9),
    st.floats(-4, 4),
    st.integers(0, 2),
)
def test_half_a_turn_mirrors_the_bins(cx, cy, w, h, theta, ratio):
    rng = np.random.default_rng(3)
    features = torch.tensor(rng.normal(size=(1, 1, 9, 9)))
    rois = torch.tensor([[0, cx, cy, w, h, theta], [0, cx, cy, w, h, theta + math.pi]])
    one, other = pool_rotated(features, rois.double(), (2, 3), RoiGrid(1.0, ratio))
    torch.testing.assert_close(one, other.flip(1, 2), atol=1e-6, rtol=0)
