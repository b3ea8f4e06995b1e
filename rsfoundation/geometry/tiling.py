"""Tiling settings: side, overlap and scales of the windows; the usual presets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rsfoundation.core.choices import TilingPreset
from rsfoundation.core.errors import ConfigError


@dataclass(frozen=True)
class TilingSettings:
    """How images are tiled; the values are those of DOTA at a single scale.

    Attributes:
        window: Side of a window in pixels at rate 1.
        gap: Pixels that neighbouring windows share at rate 1.
        rates: A rate divides both: 0.5 makes windows twice as large, which training shrinks.
        min_image_share: Windows that the image fills no more than this are left out.
        min_object_share: Least share of an object that must be in a window.
    """

    window: int = 1024
    gap: int = 200
    rates: tuple[float, ...] = (1.0,)
    min_image_share: float = 0.6
    min_object_share: float = 0.7

    def record(self) -> dict[str, Any]:
        """Return the settings as manifests hold them."""
        return {**asdict(self), "rates": list(self.rates)}

    def describe(self) -> str:
        """Return the settings for a message."""
        return f"windows of {self.window} px, gap {self.gap}, rates {', '.join(f'{r:g}' for r in self.rates)}"


LARGEST_WINDOW = 32768  # pixels; one such patch takes 3 GiB of memory
DOTA_TILINGS: Mapping[TilingPreset, TilingSettings] = {
    "ss": TilingSettings(),
    "ms": TilingSettings(gap=500, rates=(0.5, 1.0, 1.5)),
}
FAIR1M_TILINGS: Mapping[TilingPreset, TilingSettings] = {
    "ss": TilingSettings(gap=256),
    "ms": DOTA_TILINGS["ms"],
}


def window_sizes(window: int, gap: int, rates: Sequence[float]) -> list[tuple[int, int]]:
    """Return side and shared pixels of the windows at each rate.

    Args:
        window: Side at rate 1.
        gap: Shared pixels at rate 1.
        rates: Each divides both.

    Raises:
        ConfigError: A rate is not positive, a window is too small or too large, or the gap leaves no step.
    """
    sizes = []
    for rate in rates:
        if not 0 < rate < math.inf:
            raise ConfigError(f"a scale rate is {rate}", where="rates", fix="choose rates above 0")
        size, shared = int(window / rate), int(gap / rate)
        if not 0 < size <= LARGEST_WINDOW:
            raise ConfigError(
                f"windows of {size} px", where="window", fix=f"choose 1 to {LARGEST_WINDOW} px at every rate"
            )
        if not 0 <= shared < size:
            raise ConfigError(
                f"windows of {size} px cannot share {shared} px", where="gap", fix=f"choose 0 to {size - 1}"
            )
        sizes.append((size, shared))
    return sizes
