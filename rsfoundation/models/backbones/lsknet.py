"""LSKNet: large selective kernels for remote sensing (arXiv 2303.09030)."""

import torch
from torch import nn

from rsfoundation.models.backbones.fused import DepthwiseConv2d, dilated_depthwise
from rsfoundation.models.backbones.gated_conv import GatedConvBackbone
from rsfoundation.registry import MODELS


class LSKGate(nn.Module):
    """Two depth-wise kernels in a row, mixed by a per-position choice, then multiplied onto the input.

    Args:
        channels: Channels of the map, an even number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add_kernels(channels)

    def add_kernels(self, channels: int) -> None:
        """Create the layers; apart from the constructor for subclasses that put another layer first."""
        self.conv0 = DepthwiseConv2d(channels, (5, 5))
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.conv1 = nn.Conv2d(channels, channels // 2, 1)
        self.conv2 = nn.Conv2d(channels, channels // 2, 1)
        self.conv_squeeze = nn.Conv2d(2, 2, 7, padding=3)
        self.conv = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` times its gate, ``(N, C, H, W)``."""
        near = self.conv0(x)
        far = self.conv2(dilated_depthwise(self.conv_spatial, near))
        near = self.conv1(near)
        # Mean and maximum over both halves without joining them.
        mean = (near.sum(1, keepdim=True) + far.sum(1, keepdim=True)) / x.shape[1]
        peak = torch.maximum(near.amax(1, keepdim=True), far.amax(1, keepdim=True))
        choice = self.conv_squeeze(torch.cat([mean, peak], 1)).sigmoid()
        return x * self.conv(near * choice[:, :1] + far * choice[:, 1:])


@MODELS.register_module()
class LSKNet(GatedConvBackbone):
    """Gated convolution blocks whose gate chooses between a 5x5 and a 23x23 field at every position."""

    gate = LSKGate
