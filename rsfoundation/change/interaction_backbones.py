"""Backbones that run both dates side by side and let them meet between stages, under Open-CD's names.

Weights are shared between the dates and keep the plain backbone's keys, so its checkpoints load; only
interaction layers with parameters add keys, under ``ccs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.backbones import MixVisionTransformer, ResNet
from mmseg.models.utils import nlc_to_nchw
from torch import Tensor

from rsfoundation.change.interaction import build_interactions
from rsfoundation.errors import ConfigError
from rsfoundation.registry import MODELS

Interactions = Sequence[dict | None]
_NONE: Interactions = (None, None, None, None)


class _TwoDates:
    """Mixin: drives a backbone stage by stage on both dates; subclasses say what stem and stages are."""

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
                cure="give one layer or None per stage",
            )
        self.ccs = build_interactions(interaction_cfg)

    def run_stem(self, image: Tensor) -> Tensor:
        """Return what the first stage takes."""
        raise NotImplementedError

    def run_stage(self, index: int, features: Tensor) -> Tensor:
        """Return the map ``(B, C, H, W)`` of one stage."""
        raise NotImplementedError

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        """Return both dates' maps side by side, ``(B, 2C, H, W)`` per level of ``out_indices``."""
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
        """Return the map of one stage."""
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
    """mmseg's ``MixVisionTransformer`` on both dates; the dates meet after each stage's norm.

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
        """Return the map of one stage."""
        embed, blocks, norm = self.layers[index]
        tokens, size = embed(features)
        for block in blocks:
            tokens = block(tokens, size)
        return nlc_to_nchw(norm(tokens), size)
