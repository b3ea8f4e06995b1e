"""Deformable convolution on the CPU, against torchvision's operator and numerical gradients."""

import math

import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d

from rsfoundation.ops import deform_conv
from rsfoundation.ops.deform_conv import DeformedConv, Geometry, fill_input_grads, fill_output, weight_grad

PLAIN = Geometry(1, 1, 1, 1, 1, 1, 1, 1)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make(how, size=(3, 8, 7, 9), out=6, kernel=(3, 2), masked=True, dtype=torch.float64, step=32):
    """Draw a convolution whose samples lie within the map, on its border and outside."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
    batch, channels, *extent = size
    points = kernel[0] * kernel[1] * how.offset_groups
    rows, columns = (
        (extent[i] + 2 * how[2 + i] - how[4 + i] * (kernel[i] - 1) - 1) // how[i] + 1 for i in range(2)
    )
    offset = draw(batch, 2 * points, rows, columns) * 2
    mask = draw(batch, points, rows, columns) if masked else None
    weight = draw(out, channels // how.groups, *kernel)
    return DeformedConv(draw(*size), weight, offset, mask, how, step), draw(batch, out, rows, columns)


def ours(conv, grad, bias=None):
    """Return output and gradients of image, weight, offset and mask, written over arbitrary memory."""
    output = torch.full_like(grad, math.nan)
    fill_output(conv, bias, output)
    image, offset = torch.full_like(conv.image, math.nan), torch.full_like(conv.offset, math.nan)
    mask = None if conv.mask is None else torch.full_like(conv.mask, math.nan)
    fill_input_grads(conv, grad, image, offset, mask)
    return [output, image, weight_grad(conv, grad), offset, *([] if mask is None else [mask])]


def torchvisions(conv, grad):
    gate = conv.offset.new_zeros(len(conv.offset), 1) if conv.mask is None else conv.mask
    shift, options = conv.weight.new_zeros(len(conv.weight)), (*conv.how, conv.mask is not None)
    operands = (conv.image, conv.weight, conv.offset, gate, shift)
    output = torch.ops.torchvision.deform_conv2d(*operands, *options)
    grads = torch.ops.torchvision._deform_conv2d_backward(grad, *operands, *options)
    return [output, *grads[: 3 if conv.mask is None else 4]]


def assert_equal(results, expected, **tolerance):
    for one, other in zip(results, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        PLAIN,
        Geometry(2, 1, 0, 2, 1, 2, 1, 1),
        Geometry(1, 2, 2, 1, 2, 1, 2, 4),
        Geometry(1, 1, 1, 0, 1, 1, 2, 1),
        Geometry(2, 2, 1, 1, 1, 1, 1, 8),
    ],
)
def test_equals_torchvision(two_threads, how, masked):
    conv, grad = make(how, masked=masked)
    assert_equal(ours(conv, grad), torchvisions(conv, grad))


def test_float32_and_a_batch_of_many_parts(two_threads):
    conv, grad = make(PLAIN, size=(2, 16, 20, 20), dtype=torch.float32)
    assert_equal(ours(conv, grad), torchvisions(conv, grad), atol=1e-3, rtol=1e-4)


def test_depthwise():
    conv, grad = make(Geometry(1, 1, 1, 1, 1, 1, 8, 1), out=8)
    assert_equal(ours(conv, grad), torchvisions(conv, grad))


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 1, 1, 5), (1, 3, 4, 1)])
def test_degenerate_sizes(size):
    conv, grad = make(Geometry(1, 1, 0, 0, 1, 1, 1, 1), size=size, out=1, kernel=(1, 1))
    assert_equal(ours(conv, grad), torchvisions(conv, grad))


@pytest.mark.parametrize(("step", "values"), [(1, 1 << 24), (2, 1 << 24), (32, 1), (32, 8 * 56 * 6 * 2)])
def test_blocks_of_images_do_not_matter(monkeypatch, step, values):
    conv, grad = make(PLAIN)
    expected = ours(conv, grad)
    monkeypatch.setattr(deform_conv, "_VALUES_AT_ONCE", values)
    assert_equal(ours(conv._replace(step=step), grad), expected)
    per_image = grad.shape[2] * grad.shape[3] * 6
    longest = max(len(block.columns) for block in deform_conv._blocks(conv._replace(step=step)))
    assert longest <= max(per_image, min(step * per_image, values // 8))


@pytest.mark.parametrize("far", [1e6, -1e30, math.inf, -math.inf, math.nan])
def test_samples_far_outside_are_zero(far):
    conv, grad = make(PLAIN)
    bias = torch.arange(6.0, dtype=torch.float64)
    output, image, weight, offset, mask = ours(
        conv._replace(offset=torch.full_like(conv.offset, far)), grad, bias
    )
    torch.testing.assert_close(output, bias[:, None, None].expand_as(output))
    for gradient in (image, weight, offset, mask):
        assert not gradient.any()


def test_a_sample_exactly_on_the_zero_border_moves_nothing():
    """There mmcv gives no gradient to the offset, where torchvision gives the one towards the map."""
    conv, grad = make(PLAIN, kernel=(3, 3), masked=False)
    offset = ours(conv._replace(offset=torch.zeros_like(conv.offset)), grad)[3]
    assert not offset[:, :6, 0].any()  # the three upper points in the first row lie at -1
    assert offset[:, 8:10].all()  # the middle point


def test_takes_any_layout_of_memory():
    conv, grad = make(PLAIN)
    other = conv._replace(
        image=conv.image.contiguous(memory_format=torch.channels_last),
        offset=conv.offset.transpose(2, 3).contiguous().transpose(2, 3),
        weight=conv.weight.flip(0).flip(0).transpose(0, 1).contiguous().transpose(0, 1),
    )
    assert_equal(ours(other, grad.transpose(2, 3).contiguous().transpose(2, 3)), ours(conv, grad))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    conv, grad = make(PLAIN, dtype=dtype)
    tensors = {name: getattr(conv, name).float() for name in ("image", "weight", "offset", "mask")}
    expected = ours(conv._replace(**tensors), grad.float())
    assert_equal(ours(conv, grad), [tensor.to(dtype) for tensor in expected])


@pytest.mark.parametrize("step", [1, 2])
def test_gradients_through_mmcv(step):
    conv, _ = make(Geometry(2, 1, 1, 1, 1, 2, 2, 2), size=(2, 4, 5, 4), out=4, kernel=(2, 2))
    leaves = [tensor.requires_grad_() for tensor in (conv.image, conv.offset, conv.weight)]
    geometry = ((2, 1), 1, (1, 2), 2, 2)
    assert torch.autograd.gradcheck(lambda x, o, w: deform_conv2d(x, o, w, *geometry, False, step), leaves)
    leaves += [conv.mask.requires_grad_(), torch.rand(4, dtype=torch.float64, requires_grad=True)]
    assert torch.autograd.gradcheck(
        lambda x, o, w, m, b: modulated_deform_conv2d(x, o, m, w, b, *geometry), leaves
    )
