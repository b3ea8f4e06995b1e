"""Attention of Segment Anything's image encoder: windows, and positions decomposed into rows and columns."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsfoundation.models.encoders.base import Grid
from rsfoundation.models.layers import is_inference, linear

# Bytes of attention scores that are computed at a time, for each thread of a CPU: they stay in its last-level
# cache. Memory grows linearly with the number of tokens instead of quadratically.
_SCORE_BYTES = 8 << 20
_SCORE_BYTES_ACCELERATOR = 1 << 30


def relative_table(table: torch.Tensor, size: int) -> torch.Tensor:
    """Return the relative position of every pair of places along one axis, ``(size, size, channels)``.

    Args:
        table: ``(2 * native - 1, channels)``, from the most negative distance to the most positive one. It is
            resampled linearly where ``native`` is not ``size``.
        size: Number of places.
    """
    if len(table) != 2 * size - 1:
        resized = F.interpolate(table.float().T[None], size=2 * size - 1, mode="linear")
        table = resized[0].T.to(table.dtype)
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place + size - 1]


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: tuple[torch.Tensor, torch.Tensor] | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attention with positions that are decomposed into rows and columns.

    Args:
        query: ``(heads, L, channels)``.
        key: ``(heads, h * w, channels)``.
        value: Likewise.
        bias: Added to the scores: ``(heads, L, h)`` for the row of the key and ``(heads, L, w)`` for its
            column.
        dropout: Dropout of the scores.

    Returns:
        ``(heads, L, channels)``.
    """
    mask = None
    if bias is not None:
        mask = (bias[0][..., :, None] + bias[1][..., None, :]).flatten(-2)[None]
    return F.scaled_dot_product_attention(query[None], key[None], value[None], mask, dropout)[0]


class SAMAttention(nn.Module):
    """Multi-head self-attention in windows or over the whole map, with decomposed relative positions.

    Args:
        channels: Channels of the tokens.
        heads: Number of heads.
        size: Rows and columns of a window, or of the native token grid.
        window: Side of the windows; 0 for attention over the whole map.
        qkv_bias: Whether queries, keys and values have a bias.
        relative: Whether there are relative positions.
        dropout: Dropout of the scores.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        size: Grid,
        window: int,
        qkv_bias: bool,
        relative: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.window, self.dropout = heads, window, dropout
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)
        self.rel_pos_h = self.rel_pos_w = None
        if relative:
            self.rel_pos_h, self.rel_pos_w = (
                nn.Parameter(torch.zeros(2 * side - 1, channels // heads)) for side in size
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, h, w, C)`` for tokens ``(N, h, w, C)``."""
        if not self.window:
            return linear(self.proj, self._mix(linear(self.qkv, x)))
        if not is_inference(self) or x.device.type != "cpu":
            return self._mix_windows(x)
        out = torch.empty_like(x)  # a row of windows at a time stays in the cache
        for image, target in zip(x.split(1), out.split(1), strict=True):
            bands = zip(image.split(self.window, 1), target.split(self.window, 1), strict=True)
            for band, place in bands:
                place.copy_(self._mix_windows(band))
        return out

    def _mix_windows(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within windows of a map ``(N, h, w, C)``."""
        # As published, windows at the end are padded with zero tokens, which are attended to.
        padding = self.qkv(x.new_zeros(1, 1, 1, x.shape[-1]))
        windows, padded = split_windows(linear(self.qkv, x), self.window, padding)
        mixed = join_windows(self._mix(windows), self.window, padded)
        return linear(self.proj, mixed[:, : x.shape[1], : x.shape[2]])

    def _mix(self, qkv: torch.Tensor) -> torch.Tensor:
        """Mix the values of maps ``(N, h, w, 3 C)`` by attention within each map."""
        count, rows, columns, _ = qkv.shape
        parts = qkv.flatten(1, 2).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).contiguous()
        query, key, value = parts.flatten(1, 2).unbind(0)
        bias = None
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            by_row, by_column = relative_table(self.rel_pos_h, rows), relative_table(self.rel_pos_w, columns)
            places = query.unflatten(1, (rows, columns))
            along_rows = places @ by_row.mT
            along_columns = (places.transpose(1, 2) @ by_column.mT).transpose(1, 2)
            bias = along_rows.flatten(1, 2), along_columns.flatten(1, 2)
        mixed = self._attend_in_chunks(query, key, value, bias).unflatten(0, (count, self.heads))
        return mixed.transpose(1, 2).reshape(count, rows, columns, -1)

    def _attend_in_chunks(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> torch.Tensor:
        """Attend with a bounded number of scores at a time; several chunks are recomputed in the backward.

        Heads come apart before queries: the kernel of torch works faster on more queries.

        Args:
            query: ``(heads of all maps, L, channels)``.
            key: Likewise.
            value: Likewise.
            bias: See :func:`attend`.
        """
        dropout = self.dropout if self.training else 0.0
        on_cpu = query.device.type == "cpu"
        # the number of threads cannot be part of a compiled graph
        threads = 1 if torch.compiler.is_compiling() else torch.get_num_threads()
        limit = _SCORE_BYTES * threads if on_cpu else _SCORE_BYTES_ACCELERATOR
        queries = max(1, limit // (key.shape[1] * query.element_size()))
        heads = max(1, queries // query.shape[1])
        if bias is None or (heads >= len(query) and queries >= query.shape[1]):
            return attend(query, key, value, bias, dropout)
        recompute = torch.is_grad_enabled() and query.requires_grad
        outputs = []
        for first in range(0, len(query), heads):
            some = slice(first, first + heads)
            chunks = []
            for start in range(0, query.shape[1], queries):
                part = slice(start, start + queries)
                chosen = bias[0][some, part], bias[1][some, part]
                inputs = (query[some, part], key[some], value[some], chosen, dropout)
                if recompute:
                    chunks.append(checkpoint(attend, *inputs, use_reentrant=False))
                else:
                    chunks.append(attend(*inputs))
            outputs.append(chunks[0] if len(chunks) == 1 else torch.cat(chunks, 1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def split_windows(x: torch.Tensor, window: int, padding: torch.Tensor) -> tuple[torch.Tensor, Grid]:
    """Divide a map into windows, padded at its end.

    Args:
        x: ``(N, h, w, C)``.
        window: Side of a window.
        padding: ``(1, 1, 1, C)``, what the padding is filled with.

    Returns:
        ``(N * windows, window, window, C)``, and rows and columns after padding.
    """
    count, rows, columns, channels = x.shape
    more_rows, more_columns = -rows % window, -columns % window
    if more_columns:
        x = torch.cat([x, padding.expand(count, rows, more_columns, -1)], 2)
    if more_rows:
        x = torch.cat([x, padding.expand(count, more_rows, columns + more_columns, -1)], 1)
    padded = (rows + more_rows, columns + more_columns)
    x = x.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return x.transpose(2, 3).reshape(-1, window, window, channels), padded


def join_windows(x: torch.Tensor, window: int, padded: Grid) -> torch.Tensor:
    """Join windows to a map, the padding included: the inverse of :func:`split_windows`.

    Args:
        x: ``(N * windows, window, window, C)``.
        window: Side of a window.
        padded: Rows and columns of the map.
    """
    rows, columns = (side // window for side in padded)
    x = x.unflatten(0, (-1, rows, columns))
    return x.transpose(2, 3).reshape(-1, *padded, x.shape[-1])
