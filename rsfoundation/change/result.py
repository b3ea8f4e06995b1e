"""The result of comparing two dates of a scene, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsfoundation.structures.label_map import LabelMap, write_grey_png, write_summary


@dataclass(frozen=True)
class ChangeMap(LabelMap):
    """The change map of one scene: label 0 unchanged, 1 changed."""

    def summary(self) -> dict[str, int | float | str]:
        """Return how much of the scene changed."""
        changed = int(np.count_nonzero(self.labels))
        return {"changed pixels": changed, "changed %": round(100 * changed / self.labels.size, 2)}


def write_png(result: ChangeMap, path: Path) -> None:
    """Write the map as the public data sets do: 0 unchanged, 255 changed."""
    write_grey_png(np.where(result.labels != 0, 255, 0).astype(np.uint8), path)


def write_json(result: ChangeMap, path: Path) -> None:
    """Write size, changed pixels, and their share of the scene in 0..1."""
    height, width = result.labels.shape
    changed = int(np.count_nonzero(result.labels))
    content = {"height": height, "width": width, "changed_pixels": changed}
    write_summary({**content, "changed_share": changed / result.labels.size}, path)
