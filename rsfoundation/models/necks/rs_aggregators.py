"""Aggregators: the outputs of many encoder blocks, all of one size, become one map."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.model import BaseModule
from torch import nn

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.layers import LN2d
from rsfoundation.registry import MODELS

# Channels of each output of an encoder: a ViT's depth + 1 hidden states, a state space encoder's blocks.
_ENCODERS = {
    "rsmamba_small": [256] * 16,
    "rsmamba_base": [256] * 24,
    "rsmamba_large": [256] * 28,
    "rsmamba_large1": [320] * 24,
    "rsmamba_huge": [256] * 32,
    "rsmamba_uhuge2": [256] * 48,
}
_SAM_ENCODERS = {"base": [768] * 13, "large": [1024] * 25, "huge": [1280] * 33}

Maps = Sequence[torch.Tensor] | tuple[torch.Tensor, Sequence[torch.Tensor]]


def encoder_channels(encoder: str | Sequence[int]) -> list[int]:
    """Return the channels of every output of an encoder.

    Args:
        encoder: A table name (``rsmamba_base``), a name that contains ``base``, ``large`` or ``huge``
            (``facebook/sam-vit-base``), or the channels themselves.

    Raises:
        ConfigError: for any other name.
    """
    if not isinstance(encoder, str):
        return list(encoder)
    if encoder in _ENCODERS:
        return _ENCODERS[encoder]
    if not encoder.startswith("rsmamba"):
        for size, channels in _SAM_ENCODERS.items():
            if size in encoder:
                return channels
    known = [*_ENCODERS, *_SAM_ENCODERS]
    raise ConfigError(
        f"no channel table for the encoder {encoder!r}",
        where="in_channels of the feature aggregator",
        fix=f"use one of {', '.join(known)} or a list of channels; {nearest(encoder, known)}",
    )


def _conv(in_channels: int, out_channels: int, kernel: int) -> list[nn.Module]:
    """Convolution of the same size, BN and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]


@MODELS.register_module()
class RSFeatureAggregator(BaseModule):
    """Reduce the selected block outputs and add them up with residual convolutions (RSPrompter, RS4D).

    Args:
        in_channels: Encoder name or list of channels, see :func:`encoder_channels`.
        hidden_channels: Width of the reduced maps.
        out_channels: Width of the result.
        select_layers: Indices of the outputs that take part, in the order in which they are added.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        in_channels: str | Sequence[int],
        hidden_channels: int = 64,
        out_channels: int = 256,
        select_layers: Sequence[int] = range(1, 12, 2),
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = encoder_channels(in_channels)
        self.select_layers = list(select_layers)
        if not self.select_layers or max(self.select_layers) >= len(self.in_channels):
            raise ConfigError(
                f"select_layers {self.select_layers} do not fit {len(self.in_channels)} encoder outputs",
                where=type(self).__name__,
            )
        self.hidden_channels = width = hidden_channels
        self.downconvs = nn.ModuleList(
            nn.Sequential(*_conv(self.in_channels[index], width, 1), *_conv(width, width, 3))
            for index in self.select_layers
        )
        self.hidden_convs = self._convs()
        self.fusion_conv = nn.Sequential(
            *_conv(width, out_channels, 1),
            *_conv(out_channels, out_channels, 3),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )

    def forward(self, inputs: Maps) -> torch.Tensor:
        """Aggregate.

        Args:
            inputs: One ``(B, h, w, C)`` map per encoder output, or a pair (last map, those maps).

        Returns:
            ``(B, out_channels, h, w)``.
        """
        reduced = self._reduce(inputs)
        return self.fusion_conv(self._accumulate(reduced))

    def _convs(self) -> nn.ModuleList:
        """One convolution of the hidden width per selected layer."""
        width = self.hidden_channels
        return nn.ModuleList(nn.Sequential(*_conv(width, width, 3)) for _ in self.select_layers)

    def _reduce(self, inputs: Maps) -> list[torch.Tensor]:
        """Bring the selected maps to NCHW and to the hidden width."""
        is_pair = len(inputs) == 2 and isinstance(inputs[1], list | tuple)
        maps = cast(Sequence[torch.Tensor], inputs[1] if is_pair else inputs)
        if len(maps) != len(self.in_channels):
            raise ConfigError(
                f"the encoder gave {len(maps)} maps, the aggregator was built for {len(self.in_channels)}",
                where=type(self).__name__,
                fix="set the encoder's out_indices to all blocks, or in_channels to match",
            )
        selected = [maps[index].permute(0, 3, 1, 2) for index in self.select_layers]
        return [conv(x) for conv, x in zip(self.downconvs, selected, strict=True)]

    def _accumulate(self, reduced: Sequence[torch.Tensor]) -> torch.Tensor:
        """Add the maps up from the first to the last, with a residual convolution after each."""
        x = torch.zeros_like(reduced[0])
        for conv, level in zip(self.hidden_convs, reduced, strict=True):
            x = level + x
            x = x + conv(x)
        return x


@MODELS.register_module()
class RSFeaturePaAggregator(RSFeatureAggregator):
    """:class:`RSFeatureAggregator` with a second pass from the last selected map back to the first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reverse_convs = self._convs()

    def forward(self, inputs: Maps) -> torch.Tensor:
        """Aggregate; see :meth:`RSFeatureAggregator.forward`."""
        reduced = self._reduce(inputs)
        x = self._accumulate(reduced)
        for index in range(len(reduced) - 1, 0, -1):
            x = x + self.reverse_convs[index](x)
            x = x + self.reverse_convs[index - 1](reduced[index - 1])
        return self.fusion_conv(x)


@MODELS.register_module()
class PseudoFeatureAggregator(BaseModule):
    """Three convolutions over the one map of an encoder that gives no intermediate ones.

    Args:
        in_channels: Channels of that map.
        hidden_channels: Width in between.
        out_channels: Width of the result.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        out_channels: int = 256,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.channel_fusion = nn.Sequential(
            nn.Conv2d(in_channels, hidden_channels, 1, bias=False),
            LN2d(hidden_channels),
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1, bias=False),
            LN2d(hidden_channels),
            nn.Conv2d(hidden_channels, out_channels, 3, padding=1, bias=False),
            LN2d(out_channels),
        )

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuse ``inputs``, a sequence of exactly one ``(B, C, h, w)`` map."""
        (x,) = inputs
        return self.channel_fusion(x)
