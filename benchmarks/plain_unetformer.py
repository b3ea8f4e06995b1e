"""UNetFormer's decoder the plain way of its publication: planes in memory, eager, nothing merged.

Each function takes the package's own part, so that weights are the same. Sides of the levels double from one
to the next, as the published decoder needs, and the coarsest has at least 8 pixels (for reflection).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8


def _conv_norm(part: nn.Module, x: Tensor) -> Tensor:
    return part.norm(part.conv(x))


def _separable(part: nn.Module, x: Tensor) -> Tensor:
    return part.pointwise(part.norm(part.depthwise(x)))


def _attend(attention: nn.Module, x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    heads, size = attention.heads, channels // attention.heads
    padded = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="reflect")
    rows, columns = padded.shape[2] // WINDOW, padded.shape[3] // WINDOW
    qkv = attention.qkv(padded).view(count, 3, heads, size, rows, WINDOW, columns, WINDOW)
    query, key, value = qkv.permute(1, 0, 4, 6, 2, 5, 7, 3).reshape(3, -1, heads, WINDOW * WINDOW, size)
    scores = (query @ key.transpose(-2, -1)) * size**-0.5
    bias = attention.relative_position_bias_table[attention.relative_position_index.view(-1)]
    scores = scores + bias.view(WINDOW**2, WINDOW**2, heads).permute(2, 0, 1)[None]
    mixed = (scores.softmax(-1) @ value).view(count, rows, columns, heads, WINDOW, WINDOW, size)
    mixed = mixed.permute(0, 3, 6, 1, 4, 2, 5).reshape(count, channels, rows * WINDOW, columns * WINDOW)
    return mixed[:, :, :height, :width]


def _attention(attention: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    y = _attend(attention, x)
    down = F.avg_pool2d(F.pad(y, (0, 0, 0, 1), mode="reflect"), (WINDOW, 1), 1, (WINDOW // 2 - 1, 0))
    right = F.avg_pool2d(F.pad(y, (0, 1, 0, 0), mode="reflect"), (1, WINDOW), 1, (0, WINDOW // 2 - 1))
    y = down + right + (_conv_norm(attention.local3, x) + _conv_norm(attention.local1, x))
    return _separable(attention.project, F.pad(y, (0, 1, 0, 1), mode="reflect"))[:, :, :height, :width]


def _block(block: nn.Module, x: Tensor) -> Tensor:
    x = x + _attention(block.attention, block.norm1(x))
    return x + block.reduce(F.relu6(block.expand(block.norm2(x))))


def _fuse(fusion: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    weights = F.relu(fusion.weights)
    weights = weights / (weights.sum(dim=0) + 1e-8)
    return F.relu6(_conv_norm(fusion.smooth, weights[0] * fusion.skip(skip) + weights[1] * x))


def _refine(part: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    x = _fuse(part.fuse, x, skip)
    shortcut = _conv_norm(part.shortcut, x)
    pixels = part.pixels(x).sigmoid() * x
    channels = part.excite(F.relu6(part.squeeze(F.adaptive_avg_pool2d(x, 1)))).sigmoid() * x
    return F.relu6(_separable(part.project, pixels + channels) + shortcut)


def plain_unetformer(head: nn.Module, maps: Sequence[Tensor]) -> Tensor:
    """Logits at the size of the finest level.

    Args:
        head: A ``UNetFormerHead``.
        maps: Its four levels, fine to coarse.
    """
    x = _block(head.block4, _conv_norm(head.reduce, maps[3]))
    x = _block(head.block3, _fuse(head.fuse3, x, maps[2]))
    x = _block(head.block2, _fuse(head.fuse2, x, maps[1]))
    return head.conv_seg(F.relu6(_conv_norm(head.smooth, _refine(head.refine, x, maps[0]))))
