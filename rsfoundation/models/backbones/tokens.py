"""Parts of the window transformers (Swin, ViTAEv2): linear layers, MLP, window attention.

Tokens are ``(N, H, W, C)``, the memory layout of a channels-last map.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.fused import is_inference
from rsfoundation.ops.window_attention import MASKED, WINDOW, window_attention

_WIDEST = 2048  # input features; for wider 1x1 convolutions oneDNN finds no good blocks: a third of the speed
_FEWEST = 20480  # values; torch runs smaller 1x1 convolutions by a slow kernel of its own
_PART_BYTES = 8 << 20


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer over the last dimension.

    On a CPU it is run as a 1x1 convolution: that goes to oneDNN, which multiplies two to three times faster
    than the BLAS behind ``torch.nn.functional.linear`` on processors that BLAS is not tuned for.
    """
    onednn = x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.get_num_threads() > 1
    plain = type(layer) is nn.Linear  # one with an adapter computes more than its weight says
    fits = layer.in_features <= _WIDEST and x.numel() > _FEWEST
    if not (onednn and plain and fits) or torch.compiler.is_compiling():
        return layer(x)
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(column, layer.weight[:, :, None, None], layer.bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], layer.out_features)


def multi_head(qkv: torch.Tensor, heads: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mix values by attention in several heads.

    Args:
        qkv: Queries, keys and values side by side, ``(N, L, 3 * C)``, heads outermost in each.
        heads: Number of heads.
        mask: Added to the scores, broadcast to ``(N, heads, L, L)``.

    Returns:
        ``(N, L, C)``.
    """
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    if torch.compiler.is_compiling():
        # What an exporter puts in place of the fused kernel has other strides: let the graph hold the copy.
        mixed = mixed.clone(memory_format=torch.contiguous_format)
    return mixed.flatten(2)


class TokenMLP(nn.Module):
    """Linear layer, GELU, linear layer, dropout after both."""

    def __init__(self, channels: int, hidden: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        return self.drop(linear(self.fc2, self.drop(F.gelu(linear(self.fc1, x)))))

    def added(self, x: torch.Tensor, norm: nn.Module, drop_path: nn.Module) -> torch.Tensor:
        """Return ``x`` plus what this makes of its norm; on a CPU as many tokens at once as fit its cache."""
        if not is_inference(self) or x.device.type != "cpu":
            return x + drop_path(self(norm(x)))
        rows = max(1, _PART_BYTES // (self.fc1.out_features * x.element_size()))
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part, target in zip(x.flatten(0, -2).split(rows), out.flatten(0, -2).split(rows), strict=True):
            torch.add(part, self(norm(part)), out=target)
        return out


def _relative_index() -> torch.Tensor:
    """Return the table row of every pair of positions of a window, ``(49, 49)``."""
    axis = torch.arange(WINDOW)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    down = rows[:, None] - rows + WINDOW - 1
    return down * (2 * WINDOW - 1) + columns[:, None] - columns + WINDOW - 1


@dataclass(frozen=True)
class WindowGrid:
    """How a map of ``height`` x ``width`` tokens is cut into 7x7 windows, zero-padded at its end.

    Attributes:
        height: Rows of the map.
        width: Columns of the map.
        shift: Rows and columns by which the map is rolled up and left before it is cut.
    """

    height: int
    width: int
    shift: int = 0

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns after padding."""
        return -(-self.height // WINDOW) * WINDOW, -(-self.width // WINDOW) * WINDOW

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """TilingSettings ``(N, H, W, C)`` into ``(N * windows, 49, C)``."""
        rows, columns = self.padded
        if (rows, columns) != (self.height, self.width):
            x = F.pad(x, (0, 0, 0, columns - self.width, 0, rows - self.height))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        x = x.view(len(x), rows // WINDOW, WINDOW, columns // WINDOW, WINDOW, x.shape[-1])
        return x.transpose(2, 3).reshape(-1, WINDOW * WINDOW, x.shape[-1])

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """Put windows back together: the inverse of :meth:`split`, without the padding."""
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
        """Return ``(N, H, W, channels)`` for tokens ``(N, H, W, in_channels)``."""
        single = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if is_inference(self) and x.device.type == "cpu" and single:
            # Linear layers before cutting: neither the padding nor its copies are multiplied.
            qkv, bias = linear(self.qkv, x), self._bias()
            return linear(self.proj, window_attention(qkv, self.heads, self.qkv.bias, bias, grid.shift))
        mixed = multi_head(linear(self.qkv, grid.split(x)), self.heads, self._mask(grid, x))
        return grid.join(self.drop(linear(self.proj, mixed)))
