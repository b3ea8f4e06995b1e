"""SNUNet: densely connected Siamese U-Net with ensemble channel attention (10.1109/LGRS.2021.3056416)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from rsfoundation.registry import MODELS

_ROWS = 5
_Grid = dict[tuple[int, int], Tensor]


class _Block(nn.Module):
    """Two convolutions; the first one's raw output is added to the second one's."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.conv1(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(shortcut)))) + shortcut)


class _Up(nn.Module):
    """Doubles the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class _ChannelAttention(nn.Module):
    """Weights of channels from their mean and their maximum."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))
        return sum(self.fc2(F.relu(self.fc1(p))) for p in pooled).sigmoid()


@MODELS.register_module()
class SNUNet_ECAM(BaseModule):
    """Node ``conv{row}_{column}`` sees both dates of its row, its row's earlier nodes, and the row below.

    Args:
        in_channels: Channels of one date.
        base_channel: Channels of the first row; doubled from row to row. The output has four times as many.
    """

    def __init__(self, in_channels: int, base_channel: int = 32) -> None:
        super().__init__()
        widths = [base_channel * 2**row for row in range(_ROWS)]
        for row, width in enumerate(widths):
            below = in_channels if row == 0 else widths[row - 1]
            self.add_module(f"conv{row}_0", _Block(below, width))
            for column in range(1, _ROWS - row):
                inputs = width * (1 + column) + widths[row + 1]
                self.add_module(f"conv{row}_{column}", _Block(inputs, width))
        for row in range(1, _ROWS):
            for column in range(_ROWS - row):
                self.add_module(f"Up{row}_{column}", _Up(widths[row]))
        self.ca = _ChannelAttention(4 * base_channel, reduction=16)
        self.ca1 = _ChannelAttention(base_channel, reduction=4)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor]:
        """Return one map at full resolution; sides must be multiples of 16.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        before, after = self._encode(x1, _ROWS - 1), self._encode(x2, _ROWS)
        nodes: _Grid = {}
        for column in range(1, _ROWS):
            for row in range(_ROWS - column):
                lower = after[row + 1] if column == 1 else nodes[row + 1, column - 1]
                up = getattr(self, f"Up{row + 1}_{column - 1}")(lower)
                earlier = [nodes[row, c] for c in range(1, column)]
                joined = torch.cat([before[row], after[row], *earlier, up], dim=1)
                nodes[row, column] = getattr(self, f"conv{row}_{column}")(joined)
        return (self._ensemble([nodes[0, column] for column in range(1, _ROWS)]),)

    def _encode(self, x: Tensor, rows: int) -> list[Tensor]:
        maps = []
        for row in range(rows):
            x = getattr(self, f"conv{row}_0")(F.max_pool2d(x, 2) if row else x)
            maps.append(x)
        return maps

    def _ensemble(self, maps: list[Tensor]) -> Tensor:
        joined, total = torch.cat(maps, dim=1), torch.stack(maps).sum(dim=0)
        return self.ca(joined) * (joined + self.ca1(total).repeat(1, len(maps), 1, 1))
