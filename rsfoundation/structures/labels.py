"""Values of label maps: the ignored label, and the renumberings that data sets ask for."""

from __future__ import annotations

import numpy as np

IGNORED = 255


def reduce_zero(labels: np.ndarray) -> np.ndarray:
    """Make label 0 the ignored one and count the others down by one, as mmseg's ``reduce_zero_label``.

    Args:
        labels: uint8 of any shape.
    """
    reduced = labels - np.uint8(1)  # wraps 0 to 255
    reduced[labels == IGNORED] = IGNORED
    return reduced


def remap(labels: np.ndarray, label_map: dict[int, int] | None) -> np.ndarray:
    """Replace labels by ``label_map`` (old -> new); those it does not name stay.

    Args:
        labels: uint8 of any shape.
        label_map: ``None`` changes nothing.
    """
    if not label_map:
        return labels
    table = np.arange(256, dtype=np.uint8)
    table[list(label_map)] = list(label_map.values())
    return table[labels]
