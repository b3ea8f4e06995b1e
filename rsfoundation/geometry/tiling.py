"""How images are cut into patches: the settings, the customary ones, and which ones made a folder."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rsfoundation.core.choices import TilingPreset
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import read_manifest

_PATTERN = re.compile(r"(?P<image>.+)__(?P<window>\d+)__(?P<x>\d+)___(?P<y>\d+)")


@dataclass(frozen=True)
class PatchName:
    """Where a patch comes from.

    Attributes:
        image: Name of the image it was cut from.
        window: Side of the patch in pixels of that image.
        x: Left edge in that image.
        y: Upper edge in that image.
    """

    image: str
    window: int
    x: int
    y: int

    def __str__(self) -> str:
        return f"{self.image}__{self.window}__{self.x}___{self.y}"


def parse_patch_name(name: str) -> PatchName | None:
    """Take a name without suffix apart; ``None`` when it is no patch's.

    A window of 1 is the scale that DOTA's own tool writes there; the side is not known then.
    """
    match = _PATTERN.fullmatch(name)
    if match is None:
        return None
    return PatchName(match["image"], int(match["window"]), int(match["x"]), int(match["y"]))


@dataclass(frozen=True)
class TilingSettings:
    """How images are cut; the values are those of DOTA at a single scale.

    Attributes:
        window: Side of a window in pixels at rate 1.
        gap: Pixels that neighbouring windows share at rate 1.
        rates: A rate divides both: 0.5 cuts windows twice as large, which training shrinks.
        min_image_share: Windows that the image fills no more than this are left out.
        min_object_share: Least share of an object that must lie in a window.
    """

    window: int = 1024
    gap: int = 200
    rates: tuple[float, ...] = (1.0,)
    min_image_share: float = 0.6
    min_object_share: float = 0.7

    def record(self) -> dict[str, Any]:
        """Return the settings as they stand in manifests."""
        return {**asdict(self), "rates": list(self.rates)}

    def describe(self) -> str:
        """Return the settings as a sentence says them."""
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


def check_tiling(folder: Path, names: Sequence[str], cut: TilingSettings) -> None:
    """Check that a folder of patches was cut as a config says: by its manifest, else by the patches' names.

    Args:
        folder: The split.
        names: Its patches, without suffix.
        cut: What the config says.

    Raises:
        DataError: It was cut otherwise, or holds whole images.
    """
    manifest = read_manifest(folder)
    stated = manifest.parameters.get("cut") if manifest else None
    if stated is not None:
        if stated != cut.record():
            raise _otherwise(folder, cut, f"was cut with {_told(stated)}")
        return
    odd = _not_of(names, cut)
    if odd:
        shown = ", ".join(odd[:3])
        raise _otherwise(
            folder, cut, f"has {len(odd)} of {len(names)} images that no such cut makes: {shown}"
        )


def _not_of(names: Sequence[str], cut: TilingSettings) -> list[str]:
    """Return the patches whose side or place the cut does not make.

    The last window of a row or column is shifted back inside the image, so its place tells nothing.
    """
    steps = {size: size - shared for size, shared in window_sizes(cut.window, cut.gap, cut.rates)}
    patches = {name: parse_patch_name(name) for name in names}
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for patch in filter(None, patches.values()):
        x, y = last.get((patch.image, patch.window), (0, 0))
        last[patch.image, patch.window] = max(x, patch.x), max(y, patch.y)

    def fits(patch: PatchName | None) -> bool:
        if patch is None or patch.window not in steps:
            return False
        x, y = last[patch.image, patch.window]
        step = steps[patch.window]
        return (patch.x % step == 0 or patch.x == x) and (patch.y % step == 0 or patch.y == y)

    return [name for name, patch in patches.items() if not fits(patch)]


def _told(record: Mapping[str, Any]) -> str:
    try:
        return TilingSettings(**{**record, "rates": tuple(record["rates"])}).describe()
    except (TypeError, KeyError):
        return str(dict(record))


def _otherwise(folder: Path, cut: TilingSettings, found: str) -> DataError:
    return DataError(
        f"the config states {cut.describe()}, and the folder {found}",
        where=folder,
        fix="cut it again with `rsf prepare`, or set preset=None in the data sets of the config",
    )
