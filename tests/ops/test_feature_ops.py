"""Feature sampling through mmcv's own layers, against plain formulas and numerical gradients."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import (
    CARAFE,
    CARAFENaive,
    DeformConv2d,
    MaskedConv2d,
    ModulatedDeformConv2d,
    RoIPool,
    active_rotated_filter,
    deform_conv2d,
    rotated_feature_align,
)
from mmcv.ops import carafe as mmcv_carafe
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.feature_ops import carafe, deform_attention
from rsfoundation.ops.mmcv_ext import StandIn
from rsfoundation.ops.roi_align import bilinear_taps

DOUBLE, EXT = torch.float64, StandIn("mmcv._ext")


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def deform_reference(image, weight, offset, mask, stride, padding):
    """Patches gathered one kernel point at a time by grid_sample."""
    height, width = image.shape[2:]
    out_h, out_w = offset.shape[2:]
    kernel = weight.shape[2]
    padded = F.pad(image, [padding] * 4)
    columns = []
    for point in range(kernel * kernel):
        y = torch.arange(out_h)[:, None] * stride + point // kernel + offset[:, 2 * point]
        x = torch.arange(out_w)[None] * stride + point % kernel + offset[:, 2 * point + 1]
        size_x, size_y = width + 2 * padding, height + 2 * padding
        grid = torch.stack([(2 * x + 1) / size_x - 1, (2 * y + 1) / size_y - 1], -1)
        sample = F.grid_sample(padded, grid, padding_mode="zeros", align_corners=False)
        columns.append(sample if mask is None else sample * mask[:, point : point + 1])
    return torch.einsum("bckhw,ock->bohw", torch.stack(columns, 2), weight.flatten(2))


@pytest.mark.parametrize("stride", [1, 2])
def test_deformable_convolution(stride):
    layer = DeformConv2d(4, 6, 3, stride=stride, padding=1).double()
    out = (9 - 1) // stride + 1
    image, offset = draw(2, 4, 9, 9).requires_grad_(), draw(2, 18, out, out, seed=1).requires_grad_()
    expected = deform_reference(image, layer.weight, offset, None, stride, 1)
    torch.testing.assert_close(layer(image, offset), expected)
    inputs = (image, offset, layer.weight)
    weights = draw(*expected.shape, seed=2)
    ours, theirs = (
        torch.autograd.grad((y * weights).sum(), inputs) for y in (layer(image, offset), expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_of_deformable_convolution_attention_and_carafe():
    image, offset = draw(1, 2, 4, 4).requires_grad_(), draw(1, 18, 4, 4, seed=1).requires_grad_()
    weight = draw(2, 2, 3, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, o, w: deform_conv2d(x, o, w, 1, 1), (image, offset, weight), atol=1e-4
    )
    value, weights = draw(1, 20, 1, 2, seed=3).requires_grad_(), draw(1, 2, 1, 2, 2, seed=4).requires_grad_()
    locations = torch.rand(1, 2, 1, 2, 2, 2, dtype=DOUBLE).requires_grad_()
    shapes = torch.tensor([[4, 4], [2, 2]])
    assert torch.autograd.gradcheck(
        lambda v, p, w: deform_attention(v, shapes, p, w), (value, locations, weights), atol=1e-4
    )
    masks = draw(1, 9, 8, 8, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, m: mmcv_carafe(x, m, 3, 1, 2), (image, masks))


def test_modulated_deformable_convolution():
    layer = ModulatedDeformConv2d(4, 4, 3, padding=1, groups=2, deform_groups=2).double()
    image, offset = draw(1, 4, 5, 5).requires_grad_(), draw(1, 36, 5, 5, seed=1).requires_grad_()
    mask = draw(1, 18, 5, 5, seed=2).sigmoid().requires_grad_()
    assert torch.autograd.gradcheck(layer, (image, offset, mask), atol=1e-4)
    assert torch.autograd.gradcheck(
        lambda weight, bias: torch.func.functional_call(
            layer, {"weight": weight, "bias": bias}, (image, offset, mask)
        ),
        (layer.weight, layer.bias),
    )
    single = ModulatedDeformConv2d(4, 6, 3, padding=1, bias=False).double()
    expected = deform_reference(image, single.weight, offset[:, :18], mask[:, :9], 1, 1)
    torch.testing.assert_close(single(image, offset[:, :18], mask[:, :9]), expected)


@pytest.mark.parametrize("points", [1, 5])
def test_rotated_feature_align(points):
    features = draw(2, 3, 5, 6).requires_grad_()
    boxes = torch.rand(2, 5, 6, 5, dtype=DOUBLE) * torch.tensor([40.0, 48, 20, 20, 3])
    out = rotated_feature_align(features, boxes, 1 / 8, points)
    row, column, w, h, theta = boxes[1, 2, 3]
    corners = [(0, 0), (1, 1), (-1, 1), (-1, -1), (1, -1)][:points]
    expected = features[1, :, 2, 3]
    for a, b in corners:
        x = (column + a * w / 2 * theta.cos() - b * h / 2 * theta.sin()) / 8
        y = (row + a * w / 2 * theta.sin() + b * h / 2 * theta.cos()) / 8
        pixel, weight = bilinear_taps(y[None], x[None], 5, 6)
        expected = expected + (features[1].flatten(1)[:, pixel[0]] * weight[0]).sum(1)
    torch.testing.assert_close(out[1, :, 2, 3], expected)
    assert torch.autograd.gradcheck(
        lambda maps: rotated_feature_align(maps, boxes, 1 / 8, points), (features,)
    )


def test_rotated_feature_align_takes_one_row_per_pixel():
    """R3Det hands the boxes of all images over as one list."""
    features = draw(2, 3, 4, 5).requires_grad_()
    boxes = torch.rand(2, 4, 5, 5, dtype=DOUBLE) * 30
    spread = rotated_feature_align(features, boxes, 1 / 8, 1)
    rows = rotated_feature_align(features, boxes.reshape(-1, 5), 1 / 8, 1)
    torch.testing.assert_close(rows, spread)
    seed = draw(2, 3, 4, 5)
    slopes = [torch.autograd.grad(out, features, seed)[0] for out in (spread, rows)]
    torch.testing.assert_close(*slopes)


def test_rotated_feature_align_rejects_other_shapes():
    with pytest.raises(OperatorInputError, match="rotated_feature_align"):
        rotated_feature_align(draw(1, 2, 4, 4), draw(1, 4, 5, 5), 1 / 8, 1)


def test_active_rotated_filter():
    filters = draw(2, 3, 4, 3, 3).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    indices = torch.stack([torch.randperm(36, generator=generator) + 1 for _ in range(8)], 1)
    indices = indices.view(4, 3, 3, 8).int()
    out = active_rotated_filter(filters, indices)
    assert out.shape == (16, 12, 3, 3)
    entry, rotation = 17, 5
    place = int(indices.view(36, 8)[entry, rotation]) - 1
    moved = out.view(2, 8, 3, 36)[1, rotation, 2, place]
    assert moved == filters.detach().view(2, 3, 36)[1, 2, entry]
    assert torch.autograd.gradcheck(lambda weight: active_rotated_filter(weight, indices), (filters,))


def test_multi_scale_deformable_attention():
    shapes = torch.tensor([[6, 4], [3, 2]])
    starts = torch.tensor([0, 24])
    value = draw(2, 30, 2, 4).requires_grad_()
    locations = torch.rand(2, 5, 2, 2, 3, 2, dtype=DOUBLE).requires_grad_()
    weights = torch.rand(2, 5, 2, 2, 3, dtype=DOUBLE).requires_grad_()
    expected = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
    torch.testing.assert_close(
        EXT.ms_deform_attn_forward(value, shapes, starts, locations, weights, 64), expected
    )
    grad = draw(*expected.shape)
    out = [torch.zeros_like(t) for t in (value, locations, weights)]
    EXT.ms_deform_attn_backward(value, shapes, starts, locations, weights, grad, *out, 64)
    for one, other in zip(out, torch.autograd.grad(expected, (value, locations, weights), grad), strict=True):
        torch.testing.assert_close(one, other)


def test_masked_convolution():
    layer = MaskedConv2d(3, 5, 3, padding=1).double()
    image, mask = draw(1, 3, 7, 8), torch.zeros(1, 7, 8)
    mask[0, [0, 3, 6], [0, 4, 7]] = 1
    expected = F.conv2d(image, layer.weight, layer.bias, padding=1) * mask[:, None]
    torch.testing.assert_close(layer(image, mask), expected)


def test_roi_pool():
    image = draw(1, 2, 8, 8).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 7, 7], [0, 2, 2, 5, 5]], dtype=DOUBLE)
    out = RoIPool(1, 1.0)(image, rois)
    torch.testing.assert_close(out[0, :, 0, 0], image[0].flatten(1).max(1).values)
    assert torch.autograd.gradcheck(lambda maps: RoIPool(2, 1.0)(maps, rois), (image,))


def carafe_reference(features, masks, kernel, groups, scale):
    """The definition, pixel by pixel."""
    n, channels, height, width = features.shape
    out = torch.zeros(n, channels, height * scale, width * scale, dtype=features.dtype)
    padded = F.pad(features, [kernel // 2] * 4)
    for y in range(height * scale):
        for x in range(width * scale):
            patch = padded[:, :, y // scale : y // scale + kernel, x // scale : x // scale + kernel]
            weights = masks[:, :, y, x].view(n, groups, 1, kernel, kernel)
            out[:, :, y, x] = (patch.unflatten(1, (groups, -1)) * weights).sum((-1, -2)).flatten(1)
    return out


@pytest.mark.parametrize(("kernel", "groups", "scale"), [(3, 2, 2), (5, 1, 2), (1, 4, 3)])
def test_carafe(kernel, groups, scale):
    features = draw(2, 4, 3, 4).requires_grad_()
    masks = draw(2, groups * kernel**2, 3 * scale, 4 * scale, seed=1).requires_grad_()
    layer = CARAFE(kernel, groups, scale)
    expected = carafe_reference(features, masks, kernel, groups, scale)
    torch.testing.assert_close(layer(features, masks), expected)
    torch.testing.assert_close(CARAFENaive(kernel, groups, scale)(features, masks), expected)
    weights = draw(*expected.shape, seed=2)
    ours, theirs = (
        torch.autograd.grad((out * weights).sum(), (features, masks))
        for out in (layer(features, masks), expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    target = [torch.zeros_like(features), torch.zeros_like(masks)]
    EXT.carafe_naive_backward(weights, features, masks, *target, kernel, groups, scale)
    torch.testing.assert_close(target[0], theirs[0])
    torch.testing.assert_close(target[1], theirs[1])


def test_carafe_rejects_shapes_that_do_not_fit():
    with pytest.raises(OperatorInputError, match="masks should be"):
        carafe(draw(1, 4, 3, 3), draw(1, 9, 6, 5), 3, 1, 2)
