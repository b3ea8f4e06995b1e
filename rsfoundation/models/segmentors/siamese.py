"""Segmentors of pairs, under Open-CD's names.

Losses, whole and sliding-window inference and post-processing are mmseg's ``EncoderDecoder``; only the
extraction of features from a pair differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS


class _PairEncoderDecoder(EncoderDecoder):
    """Splits the input channels into two dates.

    Args:
        backbone_inchannels: Channels of one date.
        **kwargs: As for mmseg's ``EncoderDecoder``.
    """

    def __init__(self, *, backbone_inchannels: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_inchannels = backbone_inchannels

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``(B, 2C, H, W)`` into the dates ``(B, C, H, W)``.

        Raises:
            ConfigError: The inputs have another number of channels.
        """
        expected = 2 * self.backbone_inchannels
        if inputs.size(1) != expected:
            raise ConfigError(
                f"the model takes pairs of {expected} channels, got {inputs.size(1)}",
                where="model.backbone_inchannels",
                fix="set it to the number of channels of one date",
            )
        before, after = inputs.split(self.backbone_inchannels, dim=1)
        return before, after


@MODELS.register_module()
class SiamEncoderDecoder(_PairEncoderDecoder):
    """One backbone on each date, a neck that fuses the two pyramids, a decode head.

    Args:
        **kwargs: As for mmseg's ``EncoderDecoder``, with a ``neck`` called as ``neck(before, after)``,
            and ``backbone_inchannels``.

    Raises:
        ConfigError: There is no neck.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("neck") is None:
            raise ConfigError(
                "SiamEncoderDecoder needs a neck that fuses the dates",
                where="model.neck",
                fix="neck=dict(type='rsfoundation.FeatureFusionNeck', policy='concat')",
            )
        super().__init__(**kwargs)

    def extract_feat(self, inputs: Tensor) -> Sequence[Tensor]:
        """Return the fused pyramid of a batch of pairs."""
        before, after = self.split(inputs)
        return self.neck(self.backbone(before), self.backbone(after))


@MODELS.register_module()
class DIEncoderDecoder(_PairEncoderDecoder):
    """A backbone that takes both dates, ``backbone(before, after)``, an optional neck, a decode head."""

    def extract_feat(self, inputs: Tensor) -> Sequence[Tensor]:
        """Return the pyramid of a batch of pairs."""
        features = self.backbone(*self.split(inputs))
        return self.neck(features) if self.with_neck else features
