"""The decode head of Changer (arXiv 2209.08290)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from rsfoundation.models.layers import conv_norm, is_plain
from rsfoundation.models.necks.change_fusion import FDAF
from rsfoundation.registry import MODELS


class MixFFN(BaseModule):
    """1x1, depthwise 3x3, GELU, 1x1, plus the input.

    Args:
        channels: Channels in and out.
        hidden: Channels between.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Dropout(0.0),  # keeps the published key of the next layer
            nn.Conv2d(hidden, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, C, H, W)``."""
        return x + self.layers(x)


@MODELS.register_module()
class Changer(BaseDecodeHead):
    """Shared lateral projections per date, then alignment by flow, then classification.

    Args:
        interpolate_mode: How levels are brought to the size of the first.
        **kwargs: As for mmseg's ``BaseDecodeHead``; ``in_channels`` are those of one date, while the
            inputs hold both dates, concatenated.
    """

    def __init__(self, interpolate_mode: str = "bilinear", **kwargs: Any) -> None:
        super().__init__(input_transform="multiple_select", **kwargs)
        self.interpolate_mode = interpolate_mode
        half = self.channels // 2
        self.convs = nn.ModuleList(
            ConvModule(channels, self.channels, 1, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
            for channels in self.in_channels
        )
        self.fusion_conv = ConvModule(len(self.in_channels) * self.channels, half, 1, norm_cfg=self.norm_cfg)
        self.neck_layer = FDAF(half)
        self.discriminator = MixFFN(self.channels, self.channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits ``(B, classes, H, W)`` at the size of the first level."""
        halves = [level.chunk(2, dim=1) for level in self._transform_inputs(inputs)]
        before, after = (self._project([half[date] for half in halves]) for date in (0, 1))
        return self.cls_seg(self.discriminator(self.neck_layer(before, after, "concat")))

    def _project(self, levels: Sequence[Tensor]) -> Tensor:
        """Bring the levels of one date to one map ``(B, channels / 2, H, W)``."""
        projected = [_convolve(conv, level) for conv, level in zip(self.convs, levels, strict=True)]
        fusion = self.fusion_conv
        if not is_plain(fusion.conv):
            return fusion(torch.cat([self._enlarge(level, levels[0]) for level in projected], dim=1))
        # A 1x1 convolution of the joined levels is the sum of one per level, and commutes with enlarging:
        # coarse levels are convolved at their own size, and half as many channels are enlarged.
        weights = fusion.conv.weight.split(self.channels, dim=1)
        parts = [F.conv2d(level, weight) for level, weight in zip(projected, weights, strict=True)]
        total = sum(self._enlarge(part, levels[0]) for part in parts)
        if fusion.conv.bias is not None:
            total = total + fusion.conv.bias[:, None, None]
        return fusion.activate(fusion.norm(total) if fusion.with_norm else total)

    def _enlarge(self, x: Tensor, like: Tensor) -> Tensor:
        if x.shape[2:] == like.shape[2:]:
            return x
        size = like.shape[2:]
        return resize(x, size=size, mode=self.interpolate_mode, align_corners=self.align_corners)


def _convolve(layer: ConvModule, x: Tensor) -> Tensor:
    """Apply convolution, norm and activation; at inference the norm is part of the convolution."""
    return layer.activate(conv_norm(layer.conv, layer.norm, x)) if layer.with_norm else layer(x)
