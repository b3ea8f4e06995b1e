"""Feature pyramids grown from the single map of a plain encoder (after ViTDet, arXiv 2203.16527)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS


@MODELS.register_module()
class RSFPN(BaseModule):
    """A feature aggregator followed by a feature splitter.

    Args:
        feature_aggregator: Config of a module from many maps to one.
        feature_spliter: Config of a module from one map to levels (the published spelling, which is in
            the checkpoint keys); without it the aggregated map is the only level.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        feature_aggregator: Mapping[str, Any],
        feature_spliter: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.feature_aggregator = MODELS.build(feature_aggregator)
        self.feature_spliter = MODELS.build(feature_spliter) if feature_spliter else None

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the levels ``(B, C, h_i, w_i)`` of an encoder's outputs, finest first."""
        x = self.feature_aggregator(inputs)
        return (x,) if self.feature_spliter is None else self.feature_spliter(x)


_SCALES = 4


@MODELS.register_module()
class RSSimpleFPN(BaseModule):
    """Four scales of one stride-16 map, each with a 1x1 and a 3x3 convolution; no top-down path.

    Args:
        backbone_channel: Channels C of the map.
        in_channels: Channels of the scales that are used: C/4, C/2, C, C at strides 4, 8, 16, 32. A
            shorter list leaves out the coarser scales.
        out_channels: Channels of every level.
        num_outs: Levels returned; those beyond the scales are the last one, subsampled.
        conv_cfg: mmcv's, of the lateral and output convolutions.
        norm_cfg: mmcv's; ``dict(type='rsfoundation.LN2d')`` in the published configs.
        act_cfg: mmcv's.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        backbone_channel: int,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not 1 <= len(in_channels) <= min(_SCALES, num_outs):
            raise ConfigError(
                f"{len(in_channels)} in_channels for {num_outs} outputs; expected 1 to {_SCALES}",
                where=type(self).__name__,
            )
        self.num_outs = num_outs
        half, quarter = backbone_channel // 2, backbone_channel // 4
        norm = build_norm_layer(dict(norm_cfg), half)[1] if norm_cfg else nn.Identity()
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(backbone_channel, half, 2, stride=2),
            norm,
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(backbone_channel, half, 2, stride=2))
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2)

        def convs(sources: Sequence[int], kernel: int) -> nn.ModuleList:
            options = dict(padding=kernel // 2, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
            return nn.ModuleList(
                ConvModule(c, out_channels, kernel, inplace=False, **options) for c in sources
            )

        self.lateral_convs = convs(in_channels, 1)
        self.fpn_convs = convs([out_channels] * len(in_channels), 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Grow the pyramid of ``x (B, C, h, w)``: ``num_outs`` maps, finest (4h x 4w) first."""
        levels = self._fuse(self._laterals(x))
        while len(levels) < self.num_outs:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)

    def _laterals(self, x: torch.Tensor) -> list[torch.Tensor]:
        scales = (self.fpn1, self.fpn2, self.fpn3, self.fpn4)
        return [lateral(scale(x)) for scale, lateral in zip(scales, self.lateral_convs, strict=False)]

    def _fuse(self, laterals: list[torch.Tensor]) -> list[torch.Tensor]:
        return [conv(x) for conv, x in zip(self.fpn_convs, laterals, strict=True)]


@MODELS.register_module()
class RSSimplePaFPN(RSSimpleFPN):
    """:class:`RSSimpleFPN` with a path from fine to coarse.

    Each level adds the level before it, resized, and passes its own output convolution a second time.
    """

    def _fuse(self, laterals: list[torch.Tensor]) -> list[torch.Tensor]:
        levels = super()._fuse(laterals)
        for index in range(1, len(levels)):
            size = levels[index].shape[-2:]
            finer = F.interpolate(levels[index - 1], size=size, mode="bilinear", align_corners=False)
            levels[index] = self.fpn_convs[index](levels[index] + finer)
        return levels
