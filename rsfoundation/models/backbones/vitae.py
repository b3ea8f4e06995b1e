"""ViTAEv2 (arXiv 2202.10108), the window edition without shift that RSP pre-trains (arXiv 2204.02825)."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import ModuleList
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.base import BATCH_NORM, STRIDES, Backbone, NormCfg, Size, read_arch
from rsfoundation.models.backbones.window_attention import WindowAttention, WindowGrid
from rsfoundation.models.layers import TokenMLP, conv_norm, init_truncated, linear, multi_head
from rsfoundation.registry import MODELS

_MULTIPLE = 32
_MLP_RATIO = 4


@dataclass(frozen=True)
class StageArch:
    """One stage: a reduction cell and ``depth`` normal cells.

    Attributes:
        ratio: Reduction of height and width.
        kernel: Kernel of the pyramid convolutions, one for each of ``dilations``.
        dilations: Their dilations.
        window: Attention within windows instead of over all tokens.
        embed: Channels of each pyramid convolution.
        channels: Channels of the tokens.
        heads: Heads in the reduction cell and in normal cells.
        groups: Groups of the parallel convolutions in the reduction cell and in normal cells.
        depth: Number of normal cells.
    """

    ratio: int
    kernel: int
    dilations: tuple[int, ...]
    window: bool
    embed: int
    channels: int
    heads: tuple[int, int]
    groups: tuple[int, int]
    depth: int


ARCHS = {
    "s": (
        StageArch(4, 7, (1, 2, 3, 4), True, 64, 64, (1, 1), (1, 1), 2),
        StageArch(2, 3, (1, 2, 3), True, 64, 128, (1, 2), (16, 32), 2),
        StageArch(2, 3, (1, 2), False, 128, 256, (2, 4), (32, 64), 8),
        StageArch(2, 3, (1, 2), False, 256, 512, (4, 8), (64, 128), 2),
    )
}


class ParallelConvs(nn.Sequential):
    """Three 3x3 convolutions with norm and SiLU between them, parallel to the attention.

    Args:
        channels: Channels before, between (twice) and after the convolutions.
        strides: Strides of the first two.
        groups: Groups of all three.
        norm_cfg: Batch norm.
    """

    def __init__(
        self, channels: tuple[int, int, int, int], strides: tuple[int, int], groups: int, norm_cfg: NormCfg
    ) -> None:
        first, second, third, fourth = channels
        super().__init__(
            nn.Conv2d(first, second, 3, strides[0], 1, groups=groups),
            build_norm_layer(norm_cfg, second)[1],
            nn.SiLU(inplace=True),
            nn.Conv2d(second, third, 3, strides[1], 1, groups=groups),
            build_norm_layer(norm_cfg, third)[1],
            nn.SiLU(inplace=True),
            nn.Conv2d(third, fourth, 3, 1, 1, groups=groups),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(N, H', W', C')`` for a map ``(N, C, H, W)``."""
        first, norm1, act, second, norm2, _, third = self
        x = act(conv_norm(first, norm1, x))
        x = act(conv_norm(second, norm2, x))
        return third(x).permute(0, 2, 3, 1)


class PyramidReduction(nn.Module):
    """Strided convolutions of one kernel at several dilations, concatenated.

    Args:
        in_channels: Channels of the map.
        arch: Sizes of the stage.
    """

    def __init__(self, in_channels: int, arch: StageArch) -> None:
        super().__init__()
        self.convs = ModuleList()
        for dilation in arch.dilations:
            reach = (arch.kernel - 1) * dilation + 1
            padding = -(-(reach - arch.ratio) // 2)
            conv = nn.Conv2d(in_channels, arch.embed, arch.kernel, arch.ratio, padding, dilation)
            self.convs.append(nn.Sequential(conv, nn.GELU()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(N, H / ratio, W / ratio, dilations * embed)``."""
        return torch.cat([conv(x) for conv in self.convs], 1).permute(0, 2, 3, 1)


class GlobalAttention(nn.Module):
    """Multi-head self-attention over all tokens.

    Args:
        in_channels: Channels of the tokens.
        channels: Channels of queries, keys, values and the result.
        heads: Number of heads.
        value_skip: Leave out the bias of queries, keys and values, and add the values to the result.
    """

    def __init__(self, in_channels: int, channels: int, heads: int, value_skip: bool) -> None:
        super().__init__()
        self.heads, self.value_skip = heads, value_skip
        self.qkv = nn.Linear(in_channels, 3 * channels, bias=not value_skip)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, H, W, channels)``."""
        qkv = linear(self.qkv, x)
        mixed = multi_head(qkv.flatten(1, 2), self.heads).view(*x.shape[:3], -1)
        out = linear(self.proj, mixed)
        return out + qkv.chunk(3, -1)[2] if self.value_skip else out


def _attend(attention: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run either kind of attention on tokens."""
    if isinstance(attention, WindowAttention):
        return attention(x, WindowGrid(x.shape[1], x.shape[2]))
    return attention(x)


class ReductionAttention(nn.Module):
    """The attention side of a reduction cell; its layers only, the cell runs them.

    Args:
        in_channels: Channels of the tokens.
        arch: Sizes of the stage.
    """

    def __init__(self, in_channels: int, arch: StageArch) -> None:
        super().__init__()
        heads = arch.heads[0]
        self.norm1 = nn.LayerNorm(in_channels)
        self.attn: nn.Module
        if arch.window:
            self.attn = WindowAttention(in_channels, arch.channels, heads, position_bias=False)
        else:
            self.attn = GlobalAttention(in_channels, arch.channels, heads, value_skip=True)
        self.norm2 = nn.LayerNorm(arch.channels)
        self.mlp = TokenMLP(arch.channels, arch.channels)

    def forward(self, pyramid: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
        """Attend to the pyramid's tokens, add the parallel convolutions' and run the MLP.

        Args:
            pyramid: Tokens ``(N, H, W, in_channels)``.
            local: Tokens of the parallel convolutions, ``(N, H, W, C)``.
        """
        x = _attend(self.attn, self.norm1(pyramid)) + local
        return self.mlp.add_to(x, self.norm2, nn.Identity())


class ReductionCell(nn.Module):
    """Shrink a map: pyramid convolutions and attention, with parallel convolutions next to them.

    Args:
        in_channels: Channels of the map.
        arch: Sizes of the stage.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, in_channels: int, arch: StageArch, norm_cfg: NormCfg) -> None:
        super().__init__()
        strides = (2, arch.ratio // 2)
        channels = (in_channels, arch.embed, arch.embed, arch.channels)
        self.PCM = ParallelConvs(channels, strides, arch.groups[0], norm_cfg)
        self.PRM = PyramidReduction(in_channels, arch)
        self.attn = ReductionAttention(arch.embed * len(arch.dilations), arch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(N, H / ratio, W / ratio, C)`` for a map."""
        return self.attn(self.PRM(x), self.PCM(x))


class NormalCell(nn.Module):
    """Attention and parallel convolutions on the same tokens, then an MLP.

    Args:
        arch: Sizes of the stage.
        drop_path: Stochastic depth.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, arch: StageArch, drop_path: float, norm_cfg: NormCfg) -> None:
        super().__init__()
        width, heads, groups = arch.channels, arch.heads[1], arch.groups[1]
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn: nn.Module
        if arch.window:
            self.attn = WindowAttention(width, width, heads, position_bias=False)
        else:
            self.attn = GlobalAttention(width, width, heads, value_skip=False)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = TokenMLP(width, _MLP_RATIO * width)
        self.PCM = ParallelConvs((width, _MLP_RATIO * width, width, width), (1, 1), groups, norm_cfg)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        local = self.PCM(x.permute(0, 3, 1, 2))
        x = x + self.drop_path(_attend(self.attn, self.norm1(x))) + self.drop_path(local)
        return self.mlp.add_to(x, self.norm2, self.drop_path)


class ViTAEStage(nn.Module):
    """A reduction cell and normal cells.

    Args:
        in_channels: Channels of the map.
        arch: Sizes of the stage.
        rates: Stochastic depth of each normal cell.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, in_channels: int, arch: StageArch, rates: Sequence[float], norm_cfg: NormCfg) -> None:
        super().__init__()
        self.RC = ReductionCell(in_channels, arch, norm_cfg)
        self.NC = ModuleList(NormalCell(arch, rate, norm_cfg) for rate in rates)


def published_drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Return stochastic depth per stage and cell as the published code spreads it.

    A stage starts where the *previous stage's depth* says, not where the stages before it end, so that the
    largest rates are never reached.

    Args:
        rate: Rate that a linear rise over all cells would reach.
        depths: Normal cells of each stage.
    """
    line = torch.linspace(0, rate, sum(depths), dtype=torch.float64, device="cpu").tolist()
    starts = [0, *depths]
    return [line[start : start + depth] for start, depth in zip(starts, depths, strict=False)]


@MODELS.register_module()
class ViTAEv2(Backbone):
    """Convolutions and attention side by side; stage maps without norms.

    The published network takes sides that are multiples of 32. Here others are zero-padded at their end,
    and the maps cropped to ``ceil(side / stride)``.

    ``norm0`` to ``norm3`` and the position tables are in published checkpoints but used by nothing; they
    are kept, without gradients.

    Args:
        arch: ``'s'``.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_path_rate: Stochastic depth, spread as :func:`published_drop_path_rates` says.
        norm_cfg: Batch norm of the parallel convolutions, as MMCV reads it.
        frozen_stages: Freeze this many stages; there is no separate stem.
        norm_eval, with_cp, init_cfg: See :class:`rsfoundation.models.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``arch``, or stages that do not exist.
    """

    def __init__(
        self,
        arch: str = "s",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        norm_cfg: NormCfg = BATCH_NORM,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        stages = read_arch("ViTAEv2", arch, ARCHS)
        channels = [stage.channels for stage in stages]
        super().__init__(channels, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        rates = published_drop_path_rates(drop_path_rate, [stage.depth for stage in stages])
        self.layers = ModuleList(
            ViTAEStage(before, stage, stage_rates, norm_cfg)
            for before, stage, stage_rates in zip([in_channels, *channels[:-1]], stages, rates, strict=True)
        )
        for index, width in enumerate(channels):
            self.add_module(f"norm{index}", nn.LayerNorm(width, eps=1e-6).requires_grad_(False))
        self.freeze()

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the frozen stages."""
        return itertools.islice(self.layers, max(0, self.frozen_stages))

    def init_scratch(self) -> None:
        """Linear layers truncated normal with deviation 0.02, biases zero; convolutions as PyTorch does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_truncated(module)

    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return the padded image: every stage has a reduction cell of its own."""
        height, width = image.shape[2:]
        x = F.pad(image, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE))
        return x.contiguous(memory_format=torch.channels_last)

    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the map of a stage, with the padding of the image.

        Args:
            index: Stage, counted from 0.
            features: Result of the stem or of the stage before.
        """
        tokens = self.run_block(self.layers[index].RC, features)
        for cell in self.layers[index].NC:
            tokens = self.run_block(cell, tokens)
        return tokens.permute(0, 3, 1, 2)

    def stage_output(self, index: int, features: torch.Tensor, size: Size) -> torch.Tensor:
        """Return the map without the padding.

        Args:
            index: Stage, counted from 0.
            features: Result of :meth:`run_stage`.
            size: Height and width of the image.
        """
        height, width = (-(-side // STRIDES[index]) for side in size)
        return features[:, :, :height, :width]
