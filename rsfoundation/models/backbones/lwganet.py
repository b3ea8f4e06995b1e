"""LWGANet: light-weight grouped attention for remote sensing (arXiv 2501.10040)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import ModuleList
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.base import BATCH_NORM, Backbone, NormCfg, Size, drop_path_rates, read_arch
from rsfoundation.models.backbones.gated_conv import LSKGate
from rsfoundation.models.layers import (
    FastConv2d,
    conv_norm,
    depthwise_half,
    folded_pointwise,
    init_truncated,
    is_inference,
    is_plain,
    linear,
    multi_head,
    norm_affine,
)
from rsfoundation.ops import depthwise_conv2d
from rsfoundation.registry import MODELS

_KERNEL = 11
_HEAD_CHANNELS = 4
_BLUR_STRIDE = 3


class PointAttention(nn.Module):
    """A sigmoid gate from two 1x1 convolutions, and the input once more.

    Args:
        channels: Channels of the map.
        act: Activation.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, channels: int, act: type[nn.Module], norm_cfg: NormCfg) -> None:
        super().__init__()
        self.p_conv = nn.Sequential(
            FastConv2d(channels, 4 * channels, 1, bias=False),
            build_norm_layer(norm_cfg, 4 * channels)[1],
            act(),
            FastConv2d(4 * channels, channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x + x * gate``."""
        widen, norm, act, narrow = self.p_conv
        return torch.addcmul(x, x, narrow(act(conv_norm(widen, norm, x))).sigmoid())


class LocalAttention(nn.Module):
    """A dense 3x3 convolution, norm and activation.

    Args:
        channels: Channels of the map.
        act: Activation.
        norm_cfg: Batch norm, as MMCV reads it.
    """

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
    """Return the flat position in one square kernel of each tap of the four strips.

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

    Args:
        channels: Channels of the map.
        norm_cfg: Batch norm, as MMCV reads it.
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


def _put_back(maxima: torch.Tensor, where: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a map of the shape of ``like``, zero except for the 2x2 maxima at their positions."""
    if not torch.compiler.is_compiling():
        return F.max_unpool2d(maxima, where, [2, 2], [2, 2])
    # In a graph of changing size, torch may count elements for it, which ONNX has no operator for.
    plane = like.new_zeros((*like.shape[:2], like.shape[2] * like.shape[3]))
    return plane.scatter(2, where.flatten(2), maxima.flatten(2)).view(like.shape)


class PooledGate(LSKGate):
    """The large selective kernel gate on 2x2 maxima, written back to the positions of the maxima.

    Args:
        channels: Channels of the map, an even number.
        act: Activation.
    """

    def __init__(self, channels: int, act: type[nn.Module]) -> None:
        nn.Module.__init__(self)
        self.proj_1 = FastConv2d(channels, channels, 1)
        self.add_kernels(channels)
        self.proj_2 = FastConv2d(channels, channels, 1)
        self.act = act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape, zero except at the maxima; sides must be even."""
        maxima, where = F.max_pool2d(x, 2, 2, return_indices=True)
        maxima = self.proj_2(super().forward(self.act(self.proj_1(maxima))))
        return _put_back(maxima, where, x)


class PooledAttention(nn.Module):
    """Token attention on 2x2 maxima, then norm, written back to the positions of the maxima.

    Args:
        channels: Channels of the map, a multiple of 4.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, channels: int, norm_cfg: NormCfg) -> None:
        super().__init__()
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.attn = TokenAttention(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape, zero except at the maxima; sides must be even."""
        maxima, where = F.max_pool2d(x, 2, 2, return_indices=True)
        return _put_back(self.norm(self.attn(maxima)), where, x)


_STEM_STRIDE = 4
_STAGES = 4
_SMALLEST_MAP = 24  # at stride 4: the blur at stride 32 reflects two pixels, so it needs three
_MAP_MULTIPLE = 8  # at stride 4: every later map is an exact half


@dataclass(frozen=True)
class LWGANetArch:
    """Channels of the first stage, blocks per stage, activation."""

    stem: int
    depths: tuple[int, int, int, int]
    act: type[nn.Module]


ARCHS = {
    "l0": LWGANetArch(32, (1, 2, 4, 2), nn.GELU),
    "l1": LWGANetArch(64, (1, 2, 4, 2), nn.GELU),
    "l2": LWGANetArch(96, (1, 4, 4, 2), nn.ReLU),
}


class Stem(nn.Module):
    """A 4x4 patch convolution without bias, then norm; up to three last rows and columns are dropped.

    Args:
        in_channels: Bands of the image.
        channels: Channels of the result.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, in_channels: int, channels: int, norm_cfg: NormCfg) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, _STEM_STRIDE, _STEM_STRIDE, bias=False)
        self.norm = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, C, H // 4, W // 4)``."""
        return conv_norm(self.proj, self.norm, x)


class DownSampler(nn.Module):
    """Halve the map and double its channels: a strided convolution and a max-pooling, fused by 1x1.

    Args:
        channels: Channels of the map.
        act: Activation.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, channels: int, act: type[nn.Module], norm_cfg: NormCfg) -> None:
        super().__init__()
        wide = 2 * channels
        self.conv = nn.Conv2d(channels, wide, 3, padding=1, groups=channels)
        self.conv_c = nn.Conv2d(wide, wide, 3, 2, 1, groups=wide)
        self.act = act()
        self.norm_c = build_norm_layer(norm_cfg, wide)[1]
        self.norm_m = build_norm_layer(norm_cfg, wide)[1]
        self.fusion = FastConv2d(2 * wide, wide, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, 2C, ceil(H / 2), ceil(W / 2))``."""
        affine_c, affine_m = norm_affine(self.norm_c), norm_affine(self.norm_m)
        folded = is_inference(self) and is_plain(self.conv, self.conv_c, self.fusion)
        if folded and affine_c is not None and affine_m is not None:
            scale, shift = (torch.cat(pair) for pair in zip(affine_c, affine_m, strict=True))
            return self._infer(x, *folded_pointwise(self.fusion, (scale, shift)))
        y = self.conv(x)
        path, peak = self.act(self.conv_c(y)), F.max_pool2d(y, 3, 2, 1)
        return self.fusion(torch.cat([self.norm_c(path), self.norm_m(peak)], 1))

    def _infer(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Return the same with the norms folded into the fusion; even and odd channels separately."""
        halves = [depthwise_half(self.conv, x, half) for half in range(2)]
        maps = [self.act(depthwise_half(self.conv_c, y, half)) for half, y in enumerate(halves)]
        maps += [F.max_pool2d(y, 3, 2, 1) for y in halves]
        weight = weight.view(len(bias), 2, -1, 2).transpose(2, 3).reshape(len(bias), -1, 1, 1)
        return F.conv2d(torch.cat(maps, 1), weight, bias)


class LWGABlock(nn.Module):
    """Point, local, medium-range and global attention on a quarter of the channels each, then an MLP.

    Args:
        channels: Channels of the map.
        stage: Index of the stage, which decides the global attention.
        drop_path: Stochastic depth; it acts before the last norm, so a dropped sample still gets its shift.
        act: Activation.
        norm_cfg: Batch norm.
    """

    def __init__(
        self, channels: int, stage: int, drop_path: float, act: type[nn.Module], norm_cfg: NormCfg
    ) -> None:
        super().__init__()
        quarter = channels // 4
        self.mlp = nn.Sequential(
            FastConv2d(channels, 2 * channels, 1, bias=False),
            build_norm_layer(norm_cfg, 2 * channels)[1],
            act(),
            FastConv2d(2 * channels, channels, 1, bias=False),
        )
        self.PA = PointAttention(quarter, act, norm_cfg)
        self.LA = LocalAttention(quarter, act, norm_cfg)
        self.MRA = MediumRangeAttention(quarter, norm_cfg)
        if stage < 2:
            self.GA12 = PooledGate(quarter, act)
        elif stage == 2:
            self.GA3 = PooledAttention(quarter, norm_cfg)
        else:
            self.GA4 = TokenAttention(quarter)
        # The published stage 2 has no norm after its global attention.
        self.norm = nn.Identity() if stage == 2 else build_norm_layer(norm_cfg, quarter)[1]
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.drop_path = DropPath(drop_path)
        self.far = ("GA12", "GA12", "GA3", "GA4")[stage]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        point, local, medium, far = x.chunk(4, 1)
        far = self.norm(far + getattr(self, self.far)(far))
        y = torch.cat([self.PA(point), self.LA(local), self.MRA(medium), far], 1)
        widen, norm, act, narrow = self.mlp
        y = act(conv_norm(widen, norm, y))
        if is_inference(self):
            return conv_norm(narrow, self.norm1, y).add_(x)
        return x + self.norm1(self.drop_path(narrow(y)))


@MODELS.register_module()
class LWGANet(Backbone):
    """Four stages of grouped attention; every stage map gets a norm of its own on the way out.

    The published network takes images whose sides, divided by 4, are equal multiples of 8 from 24 on. Here
    a side that is not so is padded at its end with zeros up to the next such size, and the maps are
    cropped to ``floor(side / 4)`` and its halves rounded up; sides need not be equal.

    Args:
        arch: ``'l0'``, ``'l1'`` or ``'l2'``.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly from 0.
        norm_cfg: Batch norm, as MMCV reads it.
        output_norm: Whether every map gets a norm of its own on the way out; the published classifiers have
            none.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`rsfoundation.models.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``arch``, or stages that do not exist.
    """

    def __init__(
        self,
        arch: str,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        norm_cfg: NormCfg = BATCH_NORM,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
        output_norm: bool = True,
    ) -> None:
        sizes = read_arch("LWGANet", arch, ARCHS)
        channels = [sizes.stem * 2**stage for stage in range(_STAGES)]
        super().__init__(channels, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        rates = drop_path_rates(drop_path_rate, sizes.depths)
        self.Stem = Stem(in_channels, sizes.stem, norm_cfg)
        self.stages = ModuleList()
        for stage, width in enumerate(channels):
            if stage > 0:
                self.stages.append(DownSampler(width // 2, sizes.act, norm_cfg))
            blocks = [LWGABlock(width, stage, rate, sizes.act, norm_cfg) for rate in rates[stage]]
            self.stages.append(nn.ModuleDict({"blocks": ModuleList(blocks)}))
        for stage, width in enumerate(channels):
            norm = build_norm_layer(norm_cfg, width)[1] if output_norm else nn.Identity()
            self.add_module(f"norm{2 * stage}", norm.requires_grad_(stage in self.out_indices))
        self.freeze()

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the stem (from 0 on), then stages with the down-samplers before them and their norms."""
        if self.frozen_stages >= 0:
            yield self.Stem
        for index in range(2 * self.frozen_stages - 1):
            yield self.stages[index]
        for stage in range(self.frozen_stages):
            yield getattr(self, f"norm{2 * stage}")

    def init_scratch(self) -> None:
        """All weights normal with deviation 0.02, biases zero, as published."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                init_truncated(module)

    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return the padded image at a quarter of its size."""
        x = F.pad(image, (0, _missing(image.shape[3]), 0, _missing(image.shape[2])))
        return self.Stem(x.contiguous(memory_format=torch.channels_last))

    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the map of a stage, not normalised, with the padding of the image.

        Args:
            index: Stage, counted from 0.
            features: Result of the stem or of the stage before.
        """
        x = self.stages[2 * index - 1](features) if index > 0 else features
        for block in self.stages[2 * index]["blocks"]:
            x = self.run_block(block, x)
        return x

    def stage_output(self, index: int, features: torch.Tensor, size: Size) -> torch.Tensor:
        """Return the normalised map without the padding.

        Args:
            index: Stage, counted from 0.
            features: Result of :meth:`run_stage`.
            size: Height and width of the image.
        """
        height, width = (-(-(side // _STEM_STRIDE) // 2**index) for side in size)
        return getattr(self, f"norm{2 * index}")(features[:, :, :height, :width])


def _missing(side: int) -> int:
    """Return by how many pixels a side falls short of the next size that the stages can take."""
    cells = side // _STEM_STRIDE
    if cells >= _SMALLEST_MAP and cells % _MAP_MULTIPLE == 0:
        return 0
    multiple = _STEM_STRIDE * _MAP_MULTIPLE
    return max(_STEM_STRIDE * _SMALLEST_MAP, -(-side // multiple) * multiple) - side
