"""How mmrotate 0.x names the weights of oriented detectors, and what 1.x calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

AVERAGED = "ema_"  # buffers of 0.x's averaging hook: the weights not in use when the file was written
_ANCHORS = "0.x leaves anchors at angle 0: the config needs FakeRotatedAnchorGenerator(angle_version=None)"


@dataclass(frozen=True)
class Family:
    """Detectors of 0.x whose weights are called alike.

    Attributes:
        name: As papers call it.
        mark: Weights of this family, and of none after it, start so.
        renames: Pattern at the start of a key, and what takes its place; the first that fits applies.
        notes: What else changed between 0.x and 1.x.
    """

    name: str
    mark: str
    renames: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


FAMILIES = (
    Family(
        "S2ANet",
        "fam_head.",
        (
            (r"fam_head\.", "bbox_head_init."),
            (r"align_conv\.", "bbox_head_refine.0.feat_refine_module."),
            (r"odm_head\.odm_(cls|reg)\.", r"bbox_head_refine.0.retina_\1."),
            (r"odm_head\.", "bbox_head_refine.0."),
        ),
        (
            _ANCHORS,
            "0.x has one alignment convolution per level: the config needs rsfoundation.PerLevelAlignConv",
        ),
    ),
    Family(
        "R3Det",
        "refine_head.",
        (
            (r"bbox_head\.", "bbox_head_init."),
            (r"feat_refine_module\.(\d+)\.", r"bbox_head_refine.\1.feat_refine_module."),
            (r"refine_head\.(\d+)\.", r"bbox_head_refine.\1."),
        ),
        (
            _ANCHORS,
            "`oc` is (0, 90] degrees in 0.x and [-90, 0) in 1.x: rsfoundation.OpenCVAngleCoder keeps 0.x's",
        ),
    ),
    Family(
        "RoI Transformer",
        "roi_head.bbox_head.0.",
        notes=("angles spread by 1 and 0.5 in 0.x, by 0.1 and 0.05 in the configs of mmrotate 1.x",),
    ),
    Family("two-stage detector", "roi_head.", notes=("keys are unchanged",)),
    Family("one-stage detector", "bbox_head.", notes=("keys are unchanged", _ANCHORS)),
)


def family_of(keys: Iterable[str]) -> Family | None:
    """Return the family that weights of these names belong to, or ``None``."""
    names = list(keys)
    return next((known for known in FAMILIES if any(key.startswith(known.mark) for key in names)), None)


def rename(key: str, family: Family) -> str:
    """Return what mmrotate 1.x calls a weight of 0.x."""
    for pattern, replacement in family.renames:
        renamed, count = re.subn(f"^{pattern}", replacement, key)
        if count:
            return renamed
    return key
