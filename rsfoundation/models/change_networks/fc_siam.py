"""Fully convolutional Siamese networks FC-EF, FC-Siam-conc and FC-Siam-diff (arXiv 1810.08462)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from rsfoundation.registry import MODELS

_DROP = 0.2
_UNITS = (2, 2, 3, 3)  # convolutions per stage, in encoder and decoder


class _FCBase(BaseModule):
    """U-shaped network with four stages; subclasses define the encoder inputs and the skip connections.

    Modules carry the published names: ``conv{stage}{unit}``, ``bn...``, ``do...``, and ``upconv{stage}``;
    in the decoder units count down and end in ``d``.

    Args:
        in_channels: Channels of the encoder's input.
        base_channel: Channels of the first stage; doubled from stage to stage.
        skips: Encoder maps per stage that the decoder sees.
    """

    def __init__(self, in_channels: int, base_channel: int, skips: int) -> None:
        super().__init__()
        widths = [base_channel * 2**stage for stage in range(4)]
        for stage, (units, width) in enumerate(zip(_UNITS, widths, strict=True), start=1):
            before = in_channels if stage == 1 else widths[stage - 2]
            for unit in range(1, units + 1):
                self._add_unit(f"{stage}{unit}", nn.Conv2d(before, width, 3, padding=1), width)
                before = width
        for stage in (4, 3, 2, 1):
            self._add_decoder_stage(stage, widths, skips)

    def _add_decoder_stage(self, stage: int, widths: Sequence[int], skips: int) -> None:
        width, below = widths[stage - 1], widths[max(stage - 2, 0)]
        up = nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)
        self.add_module(f"upconv{stage}", up)
        for unit in range(_UNITS[stage - 1], 0, -1):
            before = width * (1 + skips) if unit == _UNITS[stage - 1] else width
            after = below if unit == 1 else width
            conv = nn.ConvTranspose2d(before, after, 3, padding=1)
            if (stage, unit) == (1, 1):
                self.add_module("conv11d", conv)  # the last one has neither norm nor activation
            else:
                self._add_unit(f"{stage}{unit}d", conv, after)

    def _add_unit(self, name: str, conv: nn.Module, channels: int) -> None:
        self.add_module(f"conv{name}", conv)
        self.add_module(f"bn{name}", nn.BatchNorm2d(channels))
        self.add_module(f"do{name}", nn.Dropout2d(_DROP))

    def _run_unit(self, name: str, x: Tensor) -> Tensor:
        x = F.relu(getattr(self, f"bn{name}")(getattr(self, f"conv{name}")(x)))
        return getattr(self, f"do{name}")(x)

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the map of every stage before pooling, and the pooled last one."""
        maps = []
        for stage, units in enumerate(_UNITS, start=1):
            for unit in range(1, units + 1):
                x = self._run_unit(f"{stage}{unit}", x)
            maps.append(x)
            x = F.max_pool2d(x, 2)
        return maps, x

    def decode(self, x: Tensor, skips: Sequence[Tensor]) -> tuple[Tensor]:
        """Return the one map ``(B, base_channel, H, W)`` from the deepest map and the skip connections."""
        for stage in (4, 3, 2, 1):
            x, skip = getattr(self, f"upconv{stage}")(x), skips[stage - 1]
            rest = (0, skip.size(3) - x.size(3), 0, skip.size(2) - x.size(2))
            x = torch.cat([F.pad(x, rest, mode="replicate"), skip], dim=1)
            for unit in range(_UNITS[stage - 1], 0, -1):
                last = (stage, unit) == (1, 1)
                x = self.conv11d(x) if last else self._run_unit(f"{stage}{unit}d", x)
        return (x,)


@MODELS.register_module()
class FC_EF(_FCBase):
    """Early fusion: both dates are concatenated.

    Args:
        in_channels: Channels of both dates together.
        base_channel: Channels of the first stage and of the output.
    """

    def __init__(self, in_channels: int, base_channel: int = 16) -> None:
        super().__init__(in_channels, base_channel, skips=1)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor]:
        """Return one map at full resolution.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        maps, deepest = self.encode(torch.cat([x1, x2], dim=1))
        return self.decode(deepest, maps)


@MODELS.register_module()
class FC_Siam_conc(_FCBase):
    """Both dates are encoded alike; the decoder sees the maps of both.

    Args:
        in_channels: Channels of one date.
        base_channel: Channels of the first stage and of the output.
    """

    def __init__(self, in_channels: int, base_channel: int = 16) -> None:
        super().__init__(in_channels, base_channel, skips=2)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor]:
        """Return one map at full resolution; the deepest map is that of the second date.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        before, _ = self.encode(x1)
        after, deepest = self.encode(x2)
        return self.decode(deepest, [torch.cat(pair, dim=1) for pair in zip(before, after, strict=True)])


@MODELS.register_module()
class FC_Siam_diff(_FCBase):
    """Both dates are encoded alike; the decoder sees how far their maps differ.

    Args:
        in_channels: Channels of one date.
        base_channel: Channels of the first stage and of the output.
    """

    def __init__(self, in_channels: int, base_channel: int = 16) -> None:
        super().__init__(in_channels, base_channel, skips=1)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor]:
        """Return one map at full resolution; the deepest map is that of the second date.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        before, _ = self.encode(x1)
        after, deepest = self.encode(x2)
        return self.decode(deepest, [(a - b).abs() for a, b in zip(before, after, strict=True)])
