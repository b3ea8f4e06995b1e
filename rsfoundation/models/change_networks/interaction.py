"""Backbones that run two dates stage by stage and let them interact between stages, under Open-CD's names.

Weights are shared between the dates and keep the plain backbone's keys, so its checkpoints load; only
interaction layers with parameters add keys, under ``ccs``. :func:`interaction_backbone` does it for every
backbone of this package.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.backbones import MixVisionTransformer, ResNeSt, ResNet
from mmseg.models.utils import nlc_to_nchw
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.base import Backbone, Size
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
    """Mixin before a backbone class: drives it stage by stage on both dates.

    The backbone has ``run_stem``, ``run_stage`` and ``stage_output`` as :class:`Backbone` has. Dates interact
    on the map that the next stage takes; what comes out of a level is made from it afterwards.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for the backbone.

    Raises:
        ConfigError: The number of layers is not that of the stages.
    """

    num_stages: int
    out_indices: Sequence[int]
    training: bool
    run_stem: Any
    run_stage: Any
    stage_output: Any

    def __init__(self, interaction_cfg: Interactions = _NONE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(interaction_cfg) != self.num_stages:
            raise ConfigError(
                f"{len(interaction_cfg)} interaction layers for {self.num_stages} stages",
                where="interaction_cfg",
                fix="give one layer or None per stage",
            )
        self.ccs = build_interactions(interaction_cfg)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        """Return both dates' maps along the channels, ``(B, 2C, H, W)`` per level of ``out_indices``.

        At inference both dates are one batch; in training each goes through by itself, so that batch norms
        see one date at a time, as published.

        Args:
            x1: First date ``(B, C, H, W)``.
            x2: Second date, of the same shape.
        """
        size: Size = (x1.shape[2], x1.shape[3])
        dates = [x1, x2] if self.training else [torch.cat([x1, x2])]
        dates = [self.run_stem(x) for x in dates]
        levels = []
        for index in range(max(self.out_indices) + 1):
            dates = self._interact(index, [self.run_stage(index, x) for x in dates])
            if index in self.out_indices:
                maps = [self.stage_output(index, x, size) for x in dates]
                levels.append(torch.cat(maps if len(maps) == 2 else maps[0].chunk(2), dim=1))
        return tuple(levels)

    def _interact(self, index: int, dates: list[Tensor]) -> list[Tensor]:
        """Apply the layer of a stage to both dates, one batch or two."""
        layer = self.ccs[index]
        if isinstance(layer, TwoIdentity):
            return dates
        x1, x2 = layer(*(dates if len(dates) == 2 else dates[0].chunk(2)))
        return [x1, x2] if len(dates) == 2 else [torch.cat([x1, x2])]


class _StageMaps(BaseModule):
    """Mixin of mmseg's backbones, whose stages give out the map that the next one takes."""

    def stage_output(self, index: int, features: Tensor, size: Size) -> Tensor:
        """Return the map itself.

        Args:
            index: Stage, from 0.
            features: Its map.
            size: Height and width of the image.
        """
        return features


class _ResNetStages(_StageMaps):
    """Stem and stages of mmseg's ``ResNet`` and what derives from it."""

    deep_stem: bool
    res_layers: list[str]

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
class IA_ResNet(_TwoDates, _ResNetStages, ResNet):
    """mmseg's ``ResNet`` on both dates.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for mmseg's ``ResNet``.
    """


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
class IA_ResNeSt(_TwoDates, _ResNetStages, ResNeSt):
    """mmseg's ``ResNeSt`` (split attention, depth 50 to 200) on both dates.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for mmseg's ``ResNeSt``.
    """


@MODELS.register_module()
class IA_MixVisionTransformer(_TwoDates, _StageMaps, MixVisionTransformer):
    """mmseg's ``MixVisionTransformer`` on both dates, which interact after each stage's norm.

    Args:
        interaction_cfg: One interaction layer or ``None`` per stage.
        **kwargs: As for mmseg's ``MixVisionTransformer``.
    """

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


@functools.cache
def _on_two_dates(kind: type[Backbone]) -> type[Any]:
    """Return the class of a backbone that runs two dates; its weights have the plain one's names."""
    return type(f"Interacting{kind.__name__}", (_TwoDates, kind), {"__doc__": kind.__doc__})


@MODELS.register_module(name="InteractionBackbone")
def interaction_backbone(backbone: Mapping[str, Any], interaction_cfg: Interactions = _NONE) -> nn.Module:
    """Build a backbone of this package on two dates that interact between its stages.

    Its state dict has the names of the plain backbone, so that its pretrained weights load as they are. Where
    ``interaction_cfg`` is that of Changer's Ex variant: ``(None, SpatialExchange, ChannelExchange,
    ChannelExchange)``.

    Args:
        backbone: Config of a backbone with four stages, such as ``LSKNet``.
        interaction_cfg: One interaction layer or ``None`` per stage.

    Raises:
        ConfigError: The backbone has no stages to interact between.
    """
    options = dict(backbone)
    name = options.pop("type")
    kind = MODELS.get(name)
    if not (isinstance(kind, type) and issubclass(kind, Backbone)):
        raise ConfigError(
            f"{name} has no stages between which dates could interact",
            where="InteractionBackbone.backbone",
            fix="choose a backbone with strides 4 to 32, or SiamEncoderDecoder with FeatureFusionNeck",
        )
    model = _on_two_dates(kind)(interaction_cfg=interaction_cfg, **options)
    model.out_channels = tuple(2 * channels for channels in model.out_channels)
    return model
