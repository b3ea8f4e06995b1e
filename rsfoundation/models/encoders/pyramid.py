"""A pyramid of four strides on top of a plain encoder, whose maps all have one stride."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModule

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.registry import MODELS

_RESCALES = (4, 2, 1, 0.5)


@MODELS.register_module()
class PlainPyramid(BaseModule):
    """A plain encoder followed by mmseg's ``Feature2Pyramid``, in place of a pyramid backbone.

    The finest map is enlarged four times by two transposed convolutions, the next twice by one, the third
    stays, the last is halved by max-pooling: strides 4, 8, 16, 32 of an encoder of stride 16 (the simple
    pyramid of ViTDet, arXiv 2203.16527, on maps of several depths as BEiT uses them for UPerNet).

    Args:
        encoder: Config of a plain encoder with four ``out_indices``, or one that then serves for all four
            strides; or of any backbone that returns so many maps of equal channels and stride.
        norm_cfg: Norm between the two transposed convolutions, as MMCV reads it.
        init_cfg: MMEngine's; that of the encoder goes into its own config.

    Attributes:
        out_channels: Channels of each map.
        out_strides: Input pixels per pixel of each map.

    Raises:
        ConfigError: The encoder's maps are neither one nor four, or differ in channels or stride.
    """

    def __init__(
        self, encoder: Mapping[str, Any], norm_cfg: Mapping[str, Any] | None = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.encoder = MODELS.build(dict(encoder))
        channels, strides = set(self.encoder.out_channels), set(self.encoder.out_strides)
        self.repeats = len(_RESCALES) // len(self.encoder.out_channels)
        if len(channels) != 1 or len(strides) != 1 or len(self.encoder.out_channels) not in (1, 4):
            raise ConfigError(
                f"a pyramid grows from one or four maps of one size, not of channels "
                f"{tuple(self.encoder.out_channels)} at strides {tuple(self.encoder.out_strides)}",
                where=f"PlainPyramid on {type(self.encoder).__name__}",
                fix="set the encoder's out_indices; a backbone with strides 4 to 32 needs no PlainPyramid",
            )
        width, stride = channels.pop(), strides.pop()
        self.out_channels = (width,) * len(_RESCALES)
        self.out_strides = tuple(int(stride / rescale) for rescale in _RESCALES)
        neck = dict(type="mmseg.Feature2Pyramid", embed_dim=width, rescales=list(_RESCALES))
        self.pyramid = MODELS.build({**neck, "norm_cfg": dict(norm_cfg or dict(type="BN"))})

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the four maps ``(N, C, h_i, w_i)`` of an image batch ``(N, bands, H, W)``, finest first."""
        maps = self.encoder.encode(x).maps if isinstance(self.encoder, PlainEncoder) else self.encoder(x)
        return self.pyramid(maps * self.repeats)
