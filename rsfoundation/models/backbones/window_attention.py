"""Attention within windows, as Swin and ViTAEv2 use it.

Tokens are ``(N, H, W, C)``, the memory layout of a channels-last map.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.layers import is_inference, linear, multi_head
from rsfoundation.ops.swin_attention import MASKED, WINDOW, window_attention


def _relative_index() -> torch.Tensor:
    """Return the table row of every pair of positions of a window, ``(49, 49)``."""
    axis = torch.arange(WINDOW)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    down = rows[:, None] - rows + WINDOW - 1
    return down * (2 * WINDOW - 1) + columns[:, None] - columns + WINDOW - 1


@dataclass(frozen=True)
class WindowGrid:
    """The division of a map of ``height`` x ``width`` tokens into 7x7 windows, zero-padded at its end.

    Attributes:
        height: Rows of the map.
        width: Columns of the map.
        shift: Rows and columns by which the map is rolled up and left before it is divided.
    """

    height: int
    width: int
    shift: int = 0

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns after padding."""
        return -(-self.height // WINDOW) * WINDOW, -(-self.width // WINDOW) * WINDOW

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Divide ``(N, H, W, C)`` into ``(N * windows, 49, C)``."""
        rows, columns = self.padded
        if (rows, columns) != (self.height, self.width):
            x = F.pad(x, (0, 0, 0, columns - self.width, 0, rows - self.height))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.view(len(x), rows // WINDOW, WINDOW, columns // WINDOW, WINDOW, x.shape[-1])
        return x.transpose(2, 3).reshape(-1, WINDOW * WINDOW, x.shape[-1])

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Join windows to a map: the inverse of :meth:`split`, without the padding."""
        rows, columns = self.padded
        x = x.view(-1, rows // WINDOW, columns // WINDOW, WINDOW, WINDOW, x.shape[-1])
        x = x.transpose(2, 3).reshape(-1, rows, columns, x.shape[-1])
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, : self.height, : self.width]

    def mask(self, like: torch.Tensor) -> torch.Tensor | None:
        """Return what to add to attention scores, ``(windows, 1, 49, 49)``; ``None`` without a shift."""
        if not self.shift:
            return None
        rows, columns = (self._regions(side, like) for side in self.padded)
        regions = WindowGrid(len(rows), len(columns)).split((3 * rows[:, None] + columns)[None, :, :, None])
        differ = regions != regions.transpose(1, 2)
        return (differ * MASKED).to(like.dtype)[:, None]

    def _regions(self, side: int, like: torch.Tensor) -> torch.Tensor:
        position = torch.arange(side, device=like.device)
        return (position >= side - WINDOW).long() + (position >= side - self.shift)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows.

    Args:
        in_channels: Channels of the tokens.
        channels: Channels of queries, keys, values and the result.
        heads: Number of heads.
        position_bias: Whether the table of relative positions is used; published ViTAEv2 carries it unused,
            so it then gets no gradient.
        drop_rate: Dropout after the projection.
    """

    relative_position_index: torch.Tensor

    def __init__(
        self, in_channels: int, channels: int, heads: int, position_bias: bool, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.position_bias = heads, position_bias
        table = torch.zeros((2 * WINDOW - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table, requires_grad=position_bias)
        self.register_buffer("relative_position_index", _relative_index())
        self.qkv = nn.Linear(in_channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.drop = nn.Dropout(drop_rate)

    def _bias(self) -> torch.Tensor | None:
        if not self.position_bias:
            return None
        index = self.relative_position_index
        return self.relative_position_bias_table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)

    def _mask(self, grid: WindowGrid, x: torch.Tensor) -> torch.Tensor | None:
        """Return what to add to the scores of the windows of ``x``."""
        bias, mask = self._bias(), grid.mask(x)
        if mask is None:
            return None if bias is None else bias[None]
        return (mask if bias is None else bias + mask).repeat(len(x), 1, 1, 1)

    def forward(self, x: torch.Tensor, grid: WindowGrid) -> torch.Tensor:
        """Attend.

        Args:
            x: Tokens ``(N, H, W, in_channels)``.
            grid: Their division into windows.

        Returns:
            ``(N, H, W, channels)``.
        """
        single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if is_inference(self) and x.device.type == "cpu" and single:
            # The linear layer comes before the division: it does not multiply the padding.
            qkv, bias = linear(self.qkv, x), self._bias()
            return linear(self.proj, window_attention(qkv, self.heads, self.qkv.bias, bias, grid.shift))
        mixed = multi_head(linear(self.qkv, grid.split(x)), self.heads, self._mask(grid, x))
        return grid.join(self.drop(linear(self.proj, mixed)))
