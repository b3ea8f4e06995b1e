"""The trunk of LSKNet and StripNet: four stages of gated convolution blocks.

The two networks differ only in the gate; both gates are here, since LWGANet and the strip head use them too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import ModuleList
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.base import BATCH_NORM, Backbone, NormCfg, drop_path_rates, read_arch
from rsfoundation.models.layers import (
    Affine,
    DepthwiseConv2d,
    FastConv2d,
    chunk_channels,
    conv_norm,
    convolve,
    dilated_depthwise,
    folded_pointwise,
    is_inference,
    is_plain,
    norm_affine,
    weight_and_bias,
)

_STRIP_LENGTH = 19
MLP_RATIOS = (8, 8, 4, 4)
LAYER_SCALE = 1e-2
_STAGE_PARTS = ("patch_embed", "block", "norm")


@dataclass(frozen=True)
class GatedConvArch:
    """Channels and number of blocks of each stage."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


ARCHS = {
    "t": GatedConvArch((32, 64, 160, 256), (3, 3, 5, 2)),
    "s": GatedConvArch((64, 128, 320, 512), (2, 2, 4, 2)),
}


class LSKGate(nn.Module):
    """Two depth-wise kernels in a row, mixed by a per-position choice, then multiplied onto the input.

    Args:
        channels: Channels of the map, an even number.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add_kernels(channels)

    def add_kernels(self, channels: int) -> None:
        """Create the layers; a method of its own so that a subclass can create another layer first."""
        self.conv0 = DepthwiseConv2d(channels, (5, 5))
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.conv1 = FastConv2d(channels, channels // 2, 1)
        self.conv2 = FastConv2d(channels, channels // 2, 1)
        self.conv_squeeze = FastConv2d(2, 2, 7, padding=3)
        self.conv = FastConv2d(channels // 2, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` times its gate, ``(N, C, H, W)``."""
        near = self.conv0(x)
        far = self.conv2(dilated_depthwise(self.conv_spatial, near))
        near = self.conv1(near)
        # Mean and maximum over the channels of both, without a concatenation.
        mean = (near.sum(1, keepdim=True) + far.sum(1, keepdim=True)) / x.shape[1]
        peak = torch.maximum(near.amax(1, keepdim=True), far.amax(1, keepdim=True))
        choice = self.conv_squeeze(torch.cat([mean, peak], 1)).sigmoid()
        return x * self.conv(near * choice[:, :1] + far * choice[:, 1:])


class StripGate(nn.Module):
    """A square, a horizontal and a vertical depth-wise kernel in a row, then multiplied onto the input.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = DepthwiseConv2d(channels, (5, 5))
        self.strip_conv1 = DepthwiseConv2d(channels, (1, _STRIP_LENGTH))
        self.strip_conv2 = DepthwiseConv2d(channels, (_STRIP_LENGTH, 1))
        self.conv1 = FastConv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` times its gate, ``(N, C, H, W)``."""
        return x * self.conv1(self.strip_conv2(self.strip_conv1(self.conv0(x))))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``(N, C, H, W)``; free of copies on channels-last maps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise every position."""
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class OverlapPatchEmbed(nn.Module):
    """Strided convolution with overlapping windows, then batch norm.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        kernel: Side of the kernel, odd.
        stride: Stride.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, norm_cfg: NormCfg) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2)
        self.norm = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the map at ``1 / stride`` of the size, rounded up."""
        return conv_norm(self.proj, self.norm, x)


class DepthwiseConv(nn.Module):
    """A 3x3 depth-wise convolution, nested once more because the published keys are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve."""
        return self.dwconv(x)


class ConvMLP(nn.Module):
    """Two 1x1 convolutions with a depth-wise convolution and GELU between them.

    Args:
        channels: Channels in and out.
        hidden: Channels between.
        drop_rate: Dropout after both 1x1 convolutions.
    """

    def __init__(self, channels: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = FastConv2d(channels, hidden, 1)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = FastConv2d(hidden, channels, 1)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        x = self.drop(F.gelu(self.dwconv(self.fc1(x))))
        return self.drop(self.fc2(x))

    def infer(self, x: torch.Tensor, before: Affine) -> torch.Tensor:
        """Return the same without dropout, for an affine step before it.

        Args:
            x: ``(N, C, H, W)``.
            before: Scale and shift per channel that are applied to ``x`` first.
        """
        weight, bias = folded_pointwise(self.fc1, before)
        depthwise, depthwise_bias = weight_and_bias(self.dwconv.dwconv)
        out_weight, out_bias = weight_and_bias(self.fc2)
        width = chunk_channels(x, len(bias))
        out = out_bias.to(x.dtype)[:, None, None] + torch.zeros_like(x)
        for chunk in (slice(start, start + width) for start in range(0, len(bias), width)):
            y = F.conv2d(x, weight[chunk], bias[chunk])
            y = F.conv2d(y, depthwise[chunk], depthwise_bias[chunk], padding=1, groups=y.shape[1])
            out += F.conv2d(F.gelu(y), out_weight[:, chunk])
        return out


class GatedAttention(nn.Module):
    """1x1 convolution and GELU, the gate, 1x1 convolution, plus the input.

    Args:
        channels: Channels of the map.
        gate: Builds the gate from the number of channels.
    """

    def __init__(self, channels: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.proj_1 = FastConv2d(channels, channels, 1)
        self.spatial_gating_unit = gate(channels)
        self.proj_2 = FastConv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x

    def infer(self, x: torch.Tensor, before: Affine, scale: torch.Tensor) -> torch.Tensor:
        """Return ``x + scale * self(affine(x))`` with the affine step and the scale in the weights.

        Args:
            x: ``(N, C, H, W)``.
            before: Scale and shift per channel that are applied to ``x`` first.
            scale: Factor per channel of what is added to ``x``.
        """
        y = F.gelu(convolve(self.proj_1, x, *folded_pointwise(self.proj_1, before)))
        weight, bias = weight_and_bias(self.proj_2)
        weight, bias = weight * scale[:, None, None, None], scale * (bias + before[1])
        y = convolve(self.proj_2, self.spatial_gating_unit(y), weight, bias)
        return y.addcmul_(x, (1 + scale * before[0])[:, None, None])


class GatedConvBlock(nn.Module):
    """Batch norm and gated attention, batch norm and MLP, each scaled per channel and added.

    Args:
        channels: Channels of the map.
        mlp_ratio: Hidden channels of the MLP per channel.
        gate: Builds the gate from the number of channels.
        drop_rate: Dropout of both MLP layers.
        drop_path: Stochastic depth.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(
        self,
        channels: int,
        mlp_ratio: int,
        gate: type[nn.Module],
        drop_rate: float,
        drop_path: float,
        norm_cfg: NormCfg,
    ) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
        self.attn = GatedAttention(channels, gate)
        self.drop_path = DropPath(drop_path)
        self.mlp = ConvMLP(channels, channels * mlp_ratio, drop_rate)
        self.layer_scale_1 = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((channels,), LAYER_SCALE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        folded = (self.attn.proj_1, self.attn.proj_2, self.mlp.fc1, self.mlp.dwconv.dwconv, self.mlp.fc2)
        if is_inference(self) and is_plain(*folded):
            before, between = norm_affine(self.norm1), norm_affine(self.norm2)
            if before is not None and between is not None:
                return self._infer(x, before, between)
        x = x + self.drop_path(self.layer_scale_1[:, None, None] * self.attn(self.norm1(x)))
        return x + self.drop_path(self.layer_scale_2[:, None, None] * self.mlp(self.norm2(x)))

    def _infer(self, x: torch.Tensor, before: Affine, between: Affine) -> torch.Tensor:
        x = self.attn.infer(x, before, self.layer_scale_1)
        return x.addcmul_(self.mlp.infer(x, between), self.layer_scale_2[:, None, None])


class GatedConvBackbone(Backbone):
    """Four stages of patch embedding, gated convolution blocks and layer norm; subclasses give the gate.

    The normalised map is both the stage's output and the input of the next stage. Maps are channels-last
    in memory throughout.

    Args:
        arch: ``'t'`` or ``'s'``.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_rate: Dropout of both MLP layers.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly from 0.
        norm_cfg: Batch norm, as MMCV reads it.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`rsfoundation.models.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``arch``, or stages that do not exist.
    """

    gate: ClassVar[type[nn.Module]]

    def __init__(
        self,
        arch: str,
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
        sizes = read_arch(type(self).__name__, arch, ARCHS)
        super().__init__(sizes.channels, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        rates = drop_path_rates(drop_path_rate, sizes.depths)
        bands = in_channels
        for stage, channels in enumerate(sizes.channels):
            kernel, stride = (7, 4) if stage == 0 else (3, 2)
            blocks = [
                GatedConvBlock(channels, MLP_RATIOS[stage], type(self).gate, drop_rate, rate, norm_cfg)
                for rate in rates[stage]
            ]
            self.add_module(
                f"patch_embed{stage + 1}", OverlapPatchEmbed(bands, channels, kernel, stride, norm_cfg)
            )
            self.add_module(f"block{stage + 1}", ModuleList(blocks))
            self.add_module(f"norm{stage + 1}", ChannelNorm(channels, eps=1e-6))
            bands = channels
        self.freeze()

    def _stages(self) -> Iterator[tuple[nn.Module, ModuleList, nn.Module]]:
        for number in range(1, len(MLP_RATIOS) + 1):
            yield tuple(getattr(self, f"{part}{number}") for part in _STAGE_PARTS)

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the first patch embedding (from 0 on) and the parts of the frozen stages."""
        if self.frozen_stages >= 0:
            yield self.patch_embed1
        for stage, _ in zip(self._stages(), range(self.frozen_stages), strict=False):
            yield from stage

    def init_scratch(self) -> None:
        """Convolutions normal by fan-out per group, everything else neutral (LSKNet reference code facts)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image: every stage has a patch embedding of its own."""
        return image.contiguous(memory_format=torch.channels_last)

    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the normalised map of a stage.

        Args:
            index: Stage, counted from 0.
            features: Result of the stem or of the stage before.
        """
        embed, blocks, norm = (getattr(self, f"{part}{index + 1}") for part in _STAGE_PARTS)
        x = embed(features)
        for block in blocks:
            x = self.run_block(block, x)
        return norm(x)
