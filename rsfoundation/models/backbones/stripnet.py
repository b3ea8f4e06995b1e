"""StripNet: large strip convolutions for remote sensing (Strip R-CNN, arXiv 2501.03775)."""

import torch
from torch import nn

from rsfoundation.models.backbones.fused import DepthwiseConv2d
from rsfoundation.models.backbones.gated_conv import GatedConvBackbone
from rsfoundation.registry import MODELS

_LENGTH = 19


class StripGate(nn.Module):
    """A square, a horizontal and a vertical depth-wise kernel in a row, then multiplied onto the input.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = DepthwiseConv2d(channels, (5, 5))
        self.strip_conv1 = DepthwiseConv2d(channels, (1, _LENGTH))
        self.strip_conv2 = DepthwiseConv2d(channels, (_LENGTH, 1))
        self.conv1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` times its gate, ``(N, C, H, W)``."""
        return x * self.conv1(self.strip_conv2(self.strip_conv1(self.conv0(x))))


@MODELS.register_module()
class StripNet(GatedConvBackbone):
    """Gated convolution blocks whose gate sees 19 positions along a row, then along a column."""

    gate = StripGate
