"""The fast ways of computing convolutions give the results of the plain ones."""

import pytest
import torch
from torch import nn

from rsfoundation.models.backbones.fast_conv import conv_norm, depthwise_half


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_two_channels_of_each(stride, bias):
    conv = nn.Conv2d(6, 12, 3, stride, 1, groups=6, bias=bias).eval()
    x = torch.randn(2, 6, 9, 10).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for half in range(2):
            torch.testing.assert_close(depthwise_half(conv, x, half), conv(x)[:, half::2])


@pytest.mark.parametrize("side", [2, 16])  # more weights than results, and fewer
def test_norms_folded_into_weights_or_applied_to_the_map(side):
    conv, norm = nn.Conv2d(8, 4, 3, padding=1, bias=False).eval(), nn.BatchNorm2d(4).eval()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 8, side, side)
    with torch.no_grad():
        torch.testing.assert_close(conv_norm(conv, norm, x), norm(conv(x)), atol=1e-5, rtol=1e-5)
