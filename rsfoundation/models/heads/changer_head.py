"""The decode head of Changer (arXiv 2209.08290), its flow alignment, and necks that join two dates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.layers import conv_norm, is_plain
from rsfoundation.registry import MODELS

_POLICIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda before, after: torch.cat([before, after], dim=1),
    "sum": lambda before, after: before + after,
    "diff": lambda before, after: after - before,
    "abs_diff": lambda before, after: (before - after).abs(),
}


@MODELS.register_module()
class FeatureFusionNeck(BaseModule):
    """Parameter-free fusion, Open-CD's ``FeatureFusionNeck``.

    Args:
        policy: ``concat``, ``sum``, ``diff`` (second minus first) or ``abs_diff``.
        in_channels: Accepted for Open-CD's configs; has no effect.
        channels: Accepted for Open-CD's configs; has no effect.
        out_indices: Levels returned, in this order.

    Raises:
        ConfigError: The policy is unknown.
    """

    def __init__(
        self,
        policy: str,
        in_channels: int | Sequence[int] | None = None,
        channels: int | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        if policy not in _POLICIES:
            raise ConfigError(
                f"no fusion policy is called '{policy}'",
                where="FeatureFusionNeck.policy",
                fix=f"choose among {', '.join(_POLICIES)}",
            )
        self.policy = policy
        self.out_indices = tuple(out_indices)

    @staticmethod
    def fusion(x1: Tensor, x2: Tensor, policy: str) -> Tensor:
        """Fuse one level of both dates.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
            policy: Name of the policy.
        """
        return _POLICIES[policy](x1, x2)

    def forward(self, x1: Sequence[Tensor], x2: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the pyramids ``x1`` (first date) and ``x2``.

        Args:
            x1: Maps of the first date, one per level.
            x2: Maps of the second date.
        """
        return tuple(self.fusion(x1[index], x2[index], self.policy) for index in self.out_indices)


@MODELS.register_module()
class FDAF(BaseModule):
    """Flow-based dual alignment fusion: each date is warped towards the other, then the other subtracted.

    Args:
        in_channels: Channels of one date.
        **kwargs: ``norm_cfg`` and ``act_cfg`` of Open-CD's configs, which have no effect there either.
    """

    def __init__(self, in_channels: int, **kwargs: Any) -> None:
        super().__init__()
        both = 2 * in_channels
        self.flow_make = nn.Sequential(
            nn.Conv2d(both, both, 5, padding=2, groups=both),
            nn.InstanceNorm2d(both),
            nn.GELU(),
            nn.Conv2d(both, 4, 1, bias=False),
        )

    def forward(
        self, x1: Tensor, x2: Tensor, fusion_policy: str | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the two differences, or their fusion by a policy of :class:`FeatureFusionNeck`.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
            fusion_policy: Name of a policy, or None for both differences.
        """
        flow1, flow2 = self.flow_make(torch.cat([x1, x2], dim=1)).chunk(2, dim=1)
        difference1 = self.warp(x1, flow1) - x2
        difference2 = self.warp(x2, flow2) - x1
        if fusion_policy is None:
            return difference1, difference2
        return FeatureFusionNeck.fusion(difference1, difference2, fusion_policy)

    @staticmethod
    def warp(x: Tensor, flow: Tensor) -> Tensor:
        """Sample ``x`` ``(B, C, H, W)`` where ``flow`` ``(B, 2, H, W)`` points, zero outside.

        The flow is (right, down) in units of half the map, divided by its size, as published:
        about half a pixel per unit.

        Args:
            x: Map to sample.
            flow: Where to sample it.
        """
        height, width = x.shape[2:]
        columns, rows = (_axis(side, x) for side in (width, height))
        right, down = columns + flow[:, 0] / width, rows[:, None] + flow[:, 1] / height
        return F.grid_sample(x, torch.stack([right, down], dim=-1).to(x.dtype), align_corners=True)


def _axis(side: int, like: Tensor) -> Tensor:
    """Return ``side`` positions from -1 to 1.

    ``linspace`` and the side as a constant would fix the size of the map in an exported graph.
    """
    precise = torch.promote_types(like.dtype, torch.float32)  # half precision cannot count far
    steps = torch.arange(side, device=like.device, dtype=precise)
    return steps * 2 / steps[-1:].clamp(min=1) - 1


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
