"""Names of patches: ``<image>__<window>__<x>___<y>``, as DOTA's and mmrotate's tools write them."""

import re
from dataclasses import dataclass

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
