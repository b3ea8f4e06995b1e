"""Backbones that run both dates and exchange features between stages, under Open-CD's names.

Weights are shared between the dates and keep the plain backbone's keys, so its checkpoints load; only
interaction layers with parameters add keys, under ``ccs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.backbones import MixVisionTransformer, ResNet
from mmseg.models.utils import nlc_to_nchw
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS

Pair = tuple[Tensor, Tensor]


@MODELS.register_module()
class TwoIdentity(BaseModule):
    """Returns both dates unchanged: the layer of a stage without interaction."""

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return the inputs.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        return x1, x2


class _Exchange(BaseModule):
    """Swaps every ``int(1 / p)``-th slice of an axis between the dates, from the first one on.

    Args:
        p: Share of slices to swap, in ``(0, 1]``.

    Raises:
        ConfigError: The share is out of range.
    """

    axis: int

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 < p <= 1:
            raise ConfigError(
                f"the share of slices to exchange is {p}, expected 0 < p <= 1",
                where="interaction_cfg",
                fix="choose 0 < p <= 1, or None for a stage without interaction",
            )
        self.step = int(1 / p)

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return both dates, slices swapped."""
        shape = [1] * x1.dim()
        shape[self.axis] = -1
        swapped = (torch.arange(x1.size(self.axis), device=x1.device) % self.step == 0).view(shape)
        return torch.where(swapped, x2, x1), torch.where(swapped, x1, x2)


@MODELS.register_module()
class ChannelExchange(_Exchange):
    """Swaps channels ``(B, C, H, W)``."""

    axis = 1


@MODELS.register_module()
class SpatialExchange(_Exchange):
    """Swaps whole columns of ``(B, C, H, W)``."""

    axis = 3


@MODELS.register_module()
class Aggregation_distribution(BaseModule):
    """Gates the channels of each date by the mean over both dates.

    Args:
        channels: Channels of one date.
        num_paths: Dates; two.
        attn_channels: Width of the bottleneck; a sixteenth of ``channels``, at least 8, when not given.
        act_cfg: Activation of the bottleneck.
        norm_cfg: Norm of the bottleneck.
    """

    def __init__(
        self,
        channels: int,
        num_paths: int = 2,
        attn_channels: int | None = None,
        act_cfg: dict = dict(type="ReLU"),  # noqa: B006 (read only)
        norm_cfg: dict = dict(type="BN", requires_grad=True),  # noqa: B006 (read only)
    ) -> None:
        super().__init__()
        hidden = max(attn_channels or channels // 16, 8)
        self.fc_reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = build_norm_layer(norm_cfg, hidden)[1]
        self.act = build_activation_layer(act_cfg)
        self.fc_select = nn.Conv2d(hidden, channels * num_paths, 1, bias=False)

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return both dates ``(B, C, H, W)``, gated.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        shared = (x1 + x2).mean(dim=(2, 3), keepdim=True)
        gates = self.fc_select(self.act(self.bn(self.fc_reduce(shared)))).sigmoid()
        gate1, gate2 = gates.chunk(2, dim=1)
        return x1 * gate1, x2 * gate2


def build_interactions(stages: Sequence[dict | None]) -> nn.ModuleList:
    """Build one interaction layer per stage; ``None`` is :class:`TwoIdentity`."""
    return nn.ModuleList(TwoIdentity() if stage is None else MODELS.build(stage) for stage in stages)


Interactions = Sequence[dict | None]
_NONE: Interactions = (None, None, None, None)


class _TwoDates:
    """Mixin: runs a backbone stage by stage on both dates; subclasses define stem and stages."""

    num_stages: int
    out_indices: Sequence[int]

    def build_interactions(self, interaction_cfg: Interactions) -> None:
        """Build one layer per stage.

        Raises:
            ConfigError: The number of layers is not that of the stages.
        """
        if len(interaction_cfg) != self.num_stages:
            raise ConfigError(
                f"{len(interaction_cfg)} interaction layers for {self.num_stages} stages",
                where="interaction_cfg",
                fix="give one layer or None per stage",
            )
        self.ccs = build_interactions(interaction_cfg)

    def run_stem(self, image: Tensor) -> Tensor:
        """Return the input of the first stage."""
        raise NotImplementedError

    def run_stage(self, index: int, features: Tensor) -> Tensor:
        """Return the map ``(B, C, H, W)`` of one stage."""
        raise NotImplementedError

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        """Return both dates' maps, concatenated, ``(B, 2C, H, W)`` per level of ``out_indices``."""
        x1, x2 = self.run_stem(x1), self.run_stem(x2)
        levels = []
        for index, interact in enumerate(self.ccs):
            x1, x2 = interact(self.run_stage(index, x1), self.run_stage(index, x2))
            if index in self.out_indices:
                levels.append(torch.cat([x1, x2], dim=1))
        return tuple(levels)


@MODELS.register_module()
class IA_ResNet(_TwoDates, ResNet):
    """mmseg's ``ResNet`` on both dates.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for mmseg's ``ResNet``.
    """

    def __init__(self, interaction_cfg: Interactions = _NONE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.build_interactions(interaction_cfg)

    def run_stem(self, image: Tensor) -> Tensor:
        """Return the pooled map of the stem."""
        plain = self.stem(image) if self.deep_stem else self.relu(self.norm1(self.conv1(image)))
        return self.maxpool(plain)

    def run_stage(self, index: int, features: Tensor) -> Tensor:
        """Return the map of one stage.

        Args:
            index: Stage, from 0.
            features: Map of the stage before.
        """
        return getattr(self, self.res_layers[index])(features)


@MODELS.register_module()
class IA_ResNetV1c(IA_ResNet):
    """:class:`IA_ResNet` with a stem of three 3x3 convolutions."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(deep_stem=True, avg_down=False, **kwargs)


@MODELS.register_module()
class IA_ResNetV1d(IA_ResNet):
    """:class:`IA_ResNetV1c` that pools before it strides in the shortcuts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(deep_stem=True, avg_down=True, **kwargs)


@MODELS.register_module()
class IA_MixVisionTransformer(_TwoDates, MixVisionTransformer):
    """mmseg's ``MixVisionTransformer`` on both dates; they interact after each stage's norm.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for mmseg's ``MixVisionTransformer``.
    """

    def __init__(self, interaction_cfg: Interactions = _NONE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.build_interactions(interaction_cfg)

    def run_stem(self, image: Tensor) -> Tensor:
        """Return the image: every stage embeds patches itself."""
        return image

    def run_stage(self, index: int, features: Tensor) -> Tensor:
        """Return the map of one stage.

        Args:
            index: Stage, from 0.
            features: Map of the stage before.
        """
        embed, blocks, norm = self.layers[index]
        tokens, size = embed(features)
        for block in blocks:
            tokens = block(tokens, size)
        return nlc_to_nchw(norm(tokens), size)
