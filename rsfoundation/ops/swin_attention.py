"""Attention within windows (Swin: arXiv 2103.14030), for inference in float32 on a CPU."""

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.kernels import ATTENTION_WINDOW as WINDOW
from rsfoundation.ops.kernels.threads import run_chunks

MASKED = -100.0  # added to scores of tokens that meet in a window only because of the shift, as published
_GRAIN = 8  # fewest pairs of a window and a head worth a thread


def window_attention(
    qkv: Tensor, heads: int, padding: Tensor, bias: Tensor | None = None, shift: int = 0
) -> Tensor:
    """Mix the values of tokens by attention within windows of 7x7, without splitting the map into windows.

    The map is filled up at its end to whole windows. Without gradients.

    Args:
        qkv: Queries, keys and values, ``(N, H, W, 3 * C)`` in float32, heads outermost in each.
        heads: Number of heads, a divisor of C.
        padding: ``(3 * C,)``, the values of tokens that fill up the map.
        bias: ``(heads, 49, 49)``, added to the scores of query and key.
        shift: Rows and columns by which the map is rolled up and left before it is split. Tokens that meet in
            a window only because of that see each other with their scores lowered by 100, as published.

    Returns:
        ``(N, H, W, C)``.

    Raises:
        ValueError: Another type or device, or channels that do not go into three times the heads.
    """
    from rsfoundation.ops.kernels.backbones import CHANNEL_STEP, PLACES, WIDE, attend

    images, height, width, channels = qkv.shape
    if qkv.dtype != torch.float32 or qkv.device.type != "cpu" or channels % (3 * heads):
        kind = f"{channels} channels in {qkv.dtype} on {qkv.device}"
        raise ValueError(f"window_attention: {kind}, not 3 * {heads} heads of float32 on a CPU")
    channels //= 3 * heads
    rows, columns = -(-height // WINDOW), -(-width // WINDOW)
    out = qkv.new_empty(images * height * width, heads, channels)

    rounded = -(-channels // CHANNEL_STEP) * CHANNEL_STEP
    shapes = (rounded,), (rounded, WIDE), (PLACES, rounded), (WIDE,)
    run_chunks(
        attend,
        images * rows * columns * heads,
        qkv.detach().reshape(-1, 3, heads, channels).contiguous().numpy(),
        padding.detach().reshape(3, heads, channels).contiguous().numpy(),
        _tables(heads, bias, shift).numpy(),
        (height, width, shift, rows, columns),
        np.float32(channels**-0.5),
        out.numpy(),
        grain=_GRAIN,
        scratch=lambda: tuple(np.zeros(shape, np.float32) for shape in shapes),
    )
    return out.view(images, height, width, heads * channels)


def _tables(heads: int, bias: Tensor | None, shift: int) -> Tensor:
    """Return the tables that the kernel adds to scores, ``(1 or 4, heads, 49, WIDE)``."""
    from rsfoundation.ops.kernels.backbones import PLACES, WIDE

    tables = torch.full((4 if shift else 1, heads, PLACES, WIDE), -torch.inf)
    tables[..., :PLACES] = 0 if bias is None else bias.detach()
    if shift:
        came_round = torch.arange(WINDOW) >= WINDOW - shift
        rows, columns = came_round.repeat_interleave(WINDOW), came_round.repeat(WINDOW)
        by_row, by_column = (side[:, None] != side for side in (rows, columns))
        for table, apart in enumerate([by_row, by_column, by_row | by_column], 1):
            tables[table, :, :, :PLACES] += MASKED * apart
    return tables
