"""Gradients of depth-wise convolutions against those of the definition in double precision."""

import pytest
import torch
from torch.nn import functional as F

from rsfoundation.ops import depthwise_conv2d

CASES = [
    (2, 16, 9, 11, 5, 5),
    (3, 32, 6, 6, 7, 7),
    (2, 48, 2, 3, 7, 7),
    (1, 16, 4, 40, 1, 19),
    (1, 32, 21, 1, 19, 1),
    (1, 16, 1, 1, 13, 13),
    (2, 12, 8, 8, 5, 5),
]


def make(images, channels, height, width, rows, columns):
    torch.manual_seed(0)
    x = torch.randn(images, channels, height, width).contiguous(memory_format=torch.channels_last)
    return x.requires_grad_(), torch.randn(channels, 1, rows, columns, requires_grad=True)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_gradients(case, threads):
    x, weight = make(*case)
    bias = torch.randn(case[1], requires_grad=True)
    slopes = torch.randn(x.shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = depthwise_conv2d(x, weight, bias)
        ours = torch.autograd.grad(y, (x, weight, bias), slopes)
    finally:
        torch.set_num_threads(before)
    exact = [part.detach().double().requires_grad_() for part in (x, weight, bias)]
    padding = (case[4] // 2, case[5] // 2)
    wanted = F.conv2d(*exact, padding=padding, groups=case[1])
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-4)
    for our, their in zip(ours, torch.autograd.grad(wanted, exact, slopes.double()), strict=True):
        torch.testing.assert_close(our.double(), their, rtol=1e-5, atol=1e-4)


def is_ours(y):
    return "Depthwise" in type(y.grad_fn).__name__


def test_what_is_computed_here():
    x, weight = make(2, 16, 8, 8, 5, 5)
    assert is_ours(depthwise_conv2d(x, weight))
    assert not is_ours(depthwise_conv2d(x.detach().contiguous(), weight)), "planes lie one after the other"
    assert not is_ours(depthwise_conv2d(x.double(), weight.double()))
    assert not is_ours(depthwise_conv2d(x, weight.detach())), "the weights are frozen"
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_ours(depthwise_conv2d(x, weight))
    with torch.no_grad():
        assert depthwise_conv2d(x, weight).grad_fn is None


def test_slopes_of_any_layout_and_no_images():
    x, weight = make(2, 16, 8, 8, 5, 5)
    slopes = torch.randn(x.shape)
    y = depthwise_conv2d(x, weight)
    results = [
        torch.autograd.grad(y, weight, each, retain_graph=True)[0]
        for each in (slopes, slopes.contiguous(memory_format=torch.channels_last))
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    depthwise_conv2d(x[:0], weight).sum().backward()
    assert not weight.grad.any()


def test_second_derivatives_are_refused():
    x, weight = make(1, 16, 8, 8, 5, 5)
    y = depthwise_conv2d(x, weight).square().sum()
    (slope,) = torch.autograd.grad(y, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_nan_stays_in_its_channel():
    x, weight = make(1, 32, 8, 8, 5, 5)
    x.data[0, 3, 4, 4] = torch.nan
    depthwise_conv2d(x, weight).sum().backward()
    assert weight.grad.isnan().flatten(1).any(1).nonzero().flatten().tolist() == [3]
