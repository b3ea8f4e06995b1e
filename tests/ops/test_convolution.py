"""Gradients of pointwise and narrow convolutions against those of the definition in double precision."""

import pytest
import torch
from torch.nn import functional as F

from rsfoundation.ops import narrow_conv2d, pointwise_conv2d

LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).requires_grad_()


def check(ours, wanted, inputs):
    """Compare a result and its gradients with those of the same function in double precision."""
    exact = [part.detach().double().requires_grad_() for part in inputs]
    y, reference = ours(*inputs), wanted(*exact)
    slopes = torch.randn(y.shape)
    torch.testing.assert_close(y.double(), reference, rtol=0, atol=1e-4)
    found = torch.autograd.grad(y, inputs, slopes)
    for our, their in zip(found, torch.autograd.grad(reference, exact, slopes.double()), strict=True):
        assert our.shape == their.shape
        torch.testing.assert_close(our.double(), their, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("shape", [(2, 16, 9, 11), (3, 5, 6, 6), (1, 7, 1, 1), (4, 32, 16, 16)], ids=str)
@pytest.mark.parametrize("out", [1, 24])
def test_gradients_of_a_pointwise_convolution(shape, out):
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=LAST).requires_grad_()
    check(pointwise_conv2d, F.conv2d, [x, leaf(out, shape[1], 1, 1), leaf(out)])


@pytest.mark.parametrize("shape", [(2, 2, 9, 11), (1, 3, 4, 4), (3, 2, 1, 2), (4, 2, 32, 32)], ids=str)
@pytest.mark.parametrize("sides", [(7, 7), (1, 5), (3, 1)], ids=str)
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format], ids=str)
def test_gradients_of_a_narrow_convolution(shape, sides, layout):
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_()
    padding = (sides[0] // 2, sides[1] // 2)
    check(
        narrow_conv2d,
        lambda *parts: F.conv2d(*parts, padding=padding),
        [x, leaf(4, shape[1], *sides, scale=0.3), leaf(4)],
    )


def is_ours(y):
    return type(y.grad_fn).__name__ in ("_PointwiseConv2dBackward", "_NarrowConv2dBackward")


def test_a_cropped_map_is_computed_here_too():
    x = torch.randn(2, 16, 9, 9).contiguous(memory_format=LAST).requires_grad_()
    cropped = x[:, :, :8, :8]
    weight = leaf(4, 16, 1, 1)
    y = pointwise_conv2d(cropped, weight)
    assert is_ours(y)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert not slope[:, :, 8].any() and slope[:, :, :8, :8].abs().min() > 0


@pytest.mark.parametrize("function", [pointwise_conv2d, narrow_conv2d])
def test_what_is_computed_here(function):
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=LAST).requires_grad_()
    weight = leaf(4, 16, 1, 1)
    assert is_ours(function(x, weight))
    assert is_ours(function(x, weight.detach())), "weights may be frozen"
    assert function(x.detach(), weight.detach()).grad_fn is None
    assert not is_ours(function(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_ours(function(x, weight))
    with torch.no_grad():
        assert function(x, weight).grad_fn is None
    assert not is_ours(pointwise_conv2d(x.detach().contiguous(), weight)), "planes one after the other"
    torch.set_num_threads(1)
    assert not is_ours(pointwise_conv2d(x, weight)), "torch's is as fast in one thread"


def test_only_asked_gradients_are_computed():
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=LAST)
    weight = leaf(4, 16, 1, 1)
    pointwise_conv2d(x, weight).sum().backward()
    assert x.grad is None and weight.grad.shape == weight.shape


@pytest.mark.parametrize("function", [pointwise_conv2d, narrow_conv2d])
def test_second_derivatives_are_refused(function):
    x = torch.randn(2, 4, 8, 8).contiguous(memory_format=LAST)
    weight = leaf(4, 4, 1, 1)
    (slope,) = torch.autograd.grad(function(x, weight).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
