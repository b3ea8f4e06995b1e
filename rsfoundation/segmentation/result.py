"""The result of segmenting a scene, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rsfoundation.structures.label_map import LabelMap, write_indexed_png, write_summary


@dataclass(frozen=True)
class SegmentationMap(LabelMap):
    """The class map of one scene."""

    def summary(self) -> dict[str, int | float | str]:
        """Return the share of each class that occurs, in per cent of the scene."""
        return {f"{name} %": round(100 * share, 1) for name, share in self.shares().items() if share}


def write_png(result: SegmentationMap, path: Path) -> None:
    """Write the class map as a palette PNG: class indices, shown in the classes' colours."""
    write_indexed_png(result.labels, result.classes.palette, path)


def write_json(result: SegmentationMap, path: Path) -> None:
    """Write size and area of each class: pixels, and share of the scene in 0..1."""
    height, width = result.labels.shape
    areas, shares = result.areas(), result.shares()
    classes = {name: {"pixels": areas[name], "share": shares[name]} for name in result.classes.names}
    write_summary({"height": height, "width": width, "classes": classes}, path)
