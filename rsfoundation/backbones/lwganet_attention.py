"""The four attentions of LWGANet, each on a quarter of the channels: point, local, medium-range, global.

Layer names are those of the published checkpoints.
"""

import torch
from mmcv.cnn import build_norm_layer
from torch import nn
from torch.nn import functional as F

from rsfoundation.backbones.base import NormCfg
from rsfoundation.backbones.fused import conv_norm
from rsfoundation.backbones.lsk_gate import LSKGate
from rsfoundation.backbones.tokens import linear, multi_head
from rsfoundation.ops import depthwise_conv2d

_KERNEL = 11
_HEAD_CHANNELS = 4
_BLUR_STRIDE = 3


class PointAttention(nn.Module):
    """A sigmoid gate from two 1x1 convolutions, and the input once more."""

    def __init__(self, channels: int, act: type[nn.Module], norm_cfg: NormCfg) -> None:
        super().__init__()
        self.p_conv = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 1, bias=False),
            build_norm_layer(norm_cfg, 4 * channels)[1],
            act(),
            nn.Conv2d(4 * channels, channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x + x * gate``."""
        widen, norm, act, narrow = self.p_conv
        return torch.addcmul(x, x, narrow(act(conv_norm(widen, norm, x))).sigmoid())


class LocalAttention(nn.Module):
    """A dense 3x3 convolution, norm and activation."""

    def __init__(self, channels: int, act: type[nn.Module], norm_cfg: NormCfg) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv = nn.Sequential(conv, build_norm_layer(norm_cfg, channels)[1], act())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        conv, norm, act = self.conv
        return act(conv_norm(conv, norm, x))


class BlurPool(nn.Module):
    """Low-pass filter and subsampling by 3; the filter is a buffer that checkpoints carry.

    Args:
        channels: Channels of the map; its sides must be at least 3.
    """

    filt: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("filt", (line[:, None] * line / 64).repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, C, ceil(H / 3), ceil(W / 3))``."""
        x = F.pad(x, (1, 2, 1, 2), mode="reflect")
        return F.conv2d(x, self.filt, stride=_BLUR_STRIDE, groups=x.shape[1])


def _tap_positions() -> torch.Tensor:
    """Return where each tap of the four strips lies in one square kernel, as flat positions.

    The strips are upright and flat, straight and along the two diagonals. Published code shears the map,
    convolves with a straight strip and shears back; a tap at (dy, dx) of the strip then reads (dy, dx - dy)
    of the unsheared map for the upright strip, and (dy - dx, dx) for the flat one.
    """
    long, short = torch.arange(_KERNEL) - _KERNEL // 2, torch.arange(3) - 1
    up_y, up_x = torch.meshgrid(long, short, indexing="ij")
    flat_y, flat_x = torch.meshgrid(short, long, indexing="ij")
    taps = [(up_y, up_x), (flat_y, flat_x), (up_y, up_x - up_y), (flat_y - flat_x, flat_x)]
    side, reach = _KERNEL + 2, _KERNEL // 2 + 1
    return torch.cat([((y + reach) * side + x + reach).flatten() for y, x in taps])


class MediumRangeAttention(nn.Module):
    """A gate from four strip convolutions of the blurred map: upright, flat and along both diagonals.

    All four are depth-wise and their results are added, so they are computed as one kernel.
    """

    taps: torch.Tensor

    def __init__(self, channels: int, norm_cfg: NormCfg) -> None:
        super().__init__()
        upright, flat = (_KERNEL, 3), (3, _KERNEL)
        self.max_m2 = BlurPool(channels)
        self.H_att1 = nn.Conv2d(channels, channels, upright, groups=channels, bias=False)
        self.V_att1 = nn.Conv2d(channels, channels, flat, groups=channels, bias=False)
        self.H_att2 = nn.Conv2d(channels, channels, upright, groups=channels, bias=False)
        self.V_att2 = nn.Conv2d(channels, channels, flat, groups=channels, bias=False)
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.register_buffer("taps", _tap_positions(), persistent=False)

    def _kernel(self) -> torch.Tensor:
        strips = (self.H_att1, self.V_att1, self.H_att2, self.V_att2)
        weights = torch.cat([strip.weight.flatten(1) for strip in strips], 1)
        side = _KERNEL + 2
        square = weights.new_zeros(len(weights), side * side).index_add(1, self.taps, weights)
        return square.view(-1, 1, side, side)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` times the gate."""
        pooled = self.max_m2(F.max_pool2d(x, 3, 1, 1))
        gate = depthwise_conv2d(pooled, self._kernel())
        gate = self.norm(gate).sigmoid()
        return x * F.interpolate(gate, size=x.shape[2:], mode="nearest")


class TokenAttention(nn.Module):
    """Multi-head self-attention over all positions, with heads of 4 channels and no positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        tokens = x.permute(0, 2, 3, 1)
        mixed = multi_head(linear(self.qkv, tokens).flatten(1, 2), x.shape[1] // _HEAD_CHANNELS)
        return linear(self.proj, mixed.view(tokens.shape)).permute(0, 3, 1, 2)


class PooledGate(LSKGate):
    """The large selective kernel gate on 2x2 maxima, put back where the maxima were."""

    def __init__(self, channels: int, act: type[nn.Module]) -> None:
        nn.Module.__init__(self)
        self.proj_1 = nn.Conv2d(channels, channels, 1)
        self.add_kernels(channels)
        self.proj_2 = nn.Conv2d(channels, channels, 1)
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape, zero but at the maxima; sides must be even."""
        maxima, where = F.max_pool2d(x, 2, 2, return_indices=True)
        maxima = self.proj_2(super().forward(self.act(self.proj_1(maxima))))
        return F.max_unpool2d(maxima, where, [2, 2], [2, 2])


class PooledAttention(nn.Module):
    """Token attention on 2x2 maxima, then norm, put back where the maxima were."""

    def __init__(self, channels: int, norm_cfg: NormCfg) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.attn = TokenAttention(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape, zero but at the maxima; sides must be even."""
        maxima, where = F.max_pool2d(x, 2, 2, return_indices=True)
        return F.max_unpool2d(self.norm(self.attn(maxima)), where, [2, 2], [2, 2])
