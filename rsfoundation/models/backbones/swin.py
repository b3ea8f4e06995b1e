"""Swin-T as pre-trained on remote-sensing scenes by RSP (Swin: arXiv 2103.14030, RSP: arXiv 2204.02825)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.model import ModuleList
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.base import BATCH_NORM, Backbone, NormCfg, Size, drop_path_rates, read_arch
from rsfoundation.models.backbones.window_attention import WINDOW, WindowAttention, WindowGrid
from rsfoundation.models.layers import TokenMLP, init_truncated, linear
from rsfoundation.registry import MODELS

_PATCH = 4
_MLP_RATIO = 4


@dataclass(frozen=True)
class SwinArch:
    """Channels of the first stage, blocks and heads per stage."""

    embed: int
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]


ARCHS = {"t": SwinArch(96, (2, 2, 6, 2), (3, 6, 12, 24))}


class PatchEmbed(nn.Module):
    """Non-overlapping 4x4 patches, zero-padded at the end, and layer norm.

    Args:
        in_channels: Bands of the image.
        channels: Channels of the tokens.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, ceil(H / 4), ceil(W / 4), C)``."""
        x = F.pad(x, (0, -x.shape[3] % _PATCH, 0, -x.shape[2] % _PATCH))
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Join 2x2 tokens, zero-padded at the end: layer norm, then a linear layer to twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, ceil(H / 2), ceil(W / 2), 2C)``."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # Published order of the four: down a column first.
        phases = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return linear(self.reduction, self.norm(torch.cat(phases, -1)))


class SwinBlock(nn.Module):
    """Window attention, shifted in every second block, and an MLP, each after layer norm and added.

    Args:
        channels: Channels of the tokens.
        heads: Heads of the attention.
        shift: Rows and columns by which the windows are shifted.
        drop_rate: Dropout of attention projection and MLP.
        drop_path: Stochastic depth.
    """

    def __init__(self, channels: int, heads: int, shift: int, drop_rate: float, drop_path: float) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, channels, heads, position_bias=True, drop_rate=drop_rate)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = TokenMLP(channels, _MLP_RATIO * channels, drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        grid = WindowGrid(x.shape[1], x.shape[2], self.shift)
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return self.mlp.add_to(x, self.norm2, self.drop_path)


class SwinStage(nn.Module):
    """Blocks, then patch merging for the next stage.

    Args:
        channels: Channels of the tokens.
        heads: Heads of the attention.
        rates: Stochastic depth of each block.
        drop_rate: Dropout of attention projection and MLP.
        last: Whether this is the last stage, which has no patch merging.
    """

    def __init__(
        self, channels: int, heads: int, rates: Sequence[float], drop_rate: float, last: bool
    ) -> None:
        super().__init__()
        self.blocks = ModuleList(
            SwinBlock(channels, heads, index % 2 * (WINDOW // 2), drop_rate, rate)
            for index, rate in enumerate(rates)
        )
        self.downsample = None if last else PatchMerging(channels)


@MODELS.register_module()
class RSPSwinTransformer(Backbone):
    """Swin for dense prediction: every stage's tokens get a layer norm of their own on the way out.

    Args:
        arch: ``'t'``.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_rate: Dropout of the patch tokens, the attention projection and both MLP layers.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly from 0.
        frozen_stages: As published, 0 and 1 freeze the patch embedding, ``n >= 2`` the first ``n - 1``
            stages too.
        norm_cfg, norm_eval: Of batch norms in every backbone; this one has none, so they change nothing and
            are there for configs that exchange one backbone for another.
        with_cp, init_cfg: See :class:`rsfoundation.models.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``arch``, or stages that do not exist.
    """

    def __init__(
        self,
        arch: str = "t",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: NormCfg = BATCH_NORM,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        sizes = read_arch("RSPSwinTransformer", arch, ARCHS)
        channels = [sizes.embed * 2**stage for stage in range(len(sizes.depths))]
        super().__init__(channels, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        self.patch_embed = PatchEmbed(in_channels, sizes.embed)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, sizes.depths)
        self.layers = ModuleList(
            SwinStage(width, sizes.heads[stage], rates[stage], drop_rate, last=stage == len(channels) - 1)
            for stage, width in enumerate(channels)
        )
        for stage, width in enumerate(channels):
            norm = nn.LayerNorm(width).requires_grad_(stage in self.out_indices)
            self.add_module(f"norm{stage}", norm)
        self.freeze()

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the patch embedding (from 0 on), then its dropout and all but the last frozen stage."""
        if self.frozen_stages >= 0:
            yield self.patch_embed
        if self.frozen_stages >= 2:
            yield self.pos_drop
        yield from self.layers[: max(0, self.frozen_stages - 1)]

    def init_scratch(self) -> None:
        """Linear layers and bias tables truncated normal with deviation 0.02, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_truncated(module)
            if isinstance(module, WindowAttention):
                nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)

    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return the patch tokens as a map."""
        return self.pos_drop(self.patch_embed(image)).permute(0, 3, 1, 2)

    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the tokens of a stage as a map, not normalised; patches are merged on the way in.

        Args:
            index: Stage, counted from 0.
            features: Result of the stem or of the stage before.
        """
        x = features.permute(0, 2, 3, 1)
        if index > 0:
            x = self.layers[index - 1].downsample(x)
        for block in self.layers[index].blocks:
            x = self.run_block(block, x)
        return x.permute(0, 3, 1, 2)

    def stage_output(self, index: int, features: torch.Tensor, size: Size) -> torch.Tensor:
        """Return the normalised map.

        Args:
            index: Stage, counted from 0.
            features: Result of :meth:`run_stage`.
            size: Height and width of the image.
        """
        return getattr(self, f"norm{index}")(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
