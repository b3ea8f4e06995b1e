"""Statistics of labelled boxes, and the angle convention that their corners were written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.reports import Example
from rsfoundation.geometry.boxes import quad_to_rbox, short_sides
from rsfoundation.prepare.check.images import ImageMeasures
from rsfoundation.prepare.check.items import SplitData

OTHER_CONVENTION = "label files in another angle convention"  # kinds in reports
PARTLY_OUTSIDE = "boxes with a centre beyond the image"
REPEATED_BOXES = "boxes that are labelled twice"
SIZE_EDGES = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024, np.inf)
ASPECT_EDGES = (1, 1.1, 1.5, 2, 3, 4, 6, 8, 12, 20, np.inf)
ANGLE_EDGES = tuple(range(-90, 91, 15))
_SQUARE = 1.1  # aspect below which width and height exchange names at a breath of noise
_TOLERANCE = np.deg2rad(0.5)
_LEAST_BOXES = 3  # clear boxes that a file needs to be judged
# Share of files from which a convention is the data set's; by chance three boxes fit in one of 64 files.
_COMMON = 0.6
_FEW = 0.02  # share of boxes of a file that may differ
Ranges = Mapping[str, tuple[float, float]]
_RANGES: Ranges = {"le90": (-90, 90), "le135": (-45, 135)}  # of the long side, degrees clockwise
_FIX_CONVENTION = (
    "convert the angles of the file; read by the wrong convention, boxes are turned by a right angle "
    "(docs/datasets.md, data checks)"
)


@dataclass(frozen=True)
class BoxStatistics:
    """Counts of the boxes of a split.

    Attributes:
        classes: Objects of each class.
        images_of: Images that show each class.
        sizes: Histogram of the square root of the area, over :data:`SIZE_EDGES`.
        aspects: Of the long side by the short one, over :data:`ASPECT_EDGES`.
        angles: Of the long side's angle in degrees (le90), over :data:`ANGLE_EDGES`.
        near_square: Boxes whose sides differ by less than a tenth: their angle is ambiguous by 90 degrees.
        small: Boxes with a side under the data set's ``min_side``.
        partly_outside: Boxes that reach beyond their image.
        per_image: Least, median and most objects of an image.
        convention: Angle convention of the corners: ``le90``, ``le135``, ``oc``, or ``none`` (corners in the
            order of labelling).
        conventions: Label files that fit each convention.
    """

    classes: Mapping[str, int]
    images_of: Mapping[str, int]
    sizes: list[int]
    aspects: list[int]
    angles: list[int]
    near_square: int
    small: int
    partly_outside: int
    per_image: tuple[int, int, int]
    convention: str = "none"
    conventions: Mapping[str, int] | None = None


def box_statistics(split: SplitData, measures: Mapping[str, ImageMeasures]) -> BoxStatistics | None:
    """Return the statistics of a split; its report takes boxes and files that look wrong.

    Args:
        split: The split.
        measures: Of its images, for their sizes.

    Returns:
        ``None`` for a split without boxes.
    """
    items = [item for item in split.items if len(item.quads)]
    if not items:
        return None
    quads, labels = np.concatenate([i.quads for i in items]), np.concatenate([i.labels for i in items])
    boxes = quad_to_rbox(quads)
    w, h = boxes[:, 2], np.maximum(boxes[:, 3], 1e-6)
    counts = [len(item.quads) for item in split.items]
    images_of = Counter(int(label) for item in items for label in np.unique(item.labels))
    return BoxStatistics(
        classes={name: int((labels == index).sum()) for index, name in enumerate(split.classes)},
        images_of={name: images_of[index] for index, name in enumerate(split.classes)},
        sizes=np.histogram(np.sqrt(w * h), SIZE_EDGES)[0].tolist(),
        aspects=np.histogram(np.maximum(w / h, 1), ASPECT_EDGES)[0].tolist(),
        angles=np.histogram(np.rad2deg(boxes[:, 4]), ANGLE_EDGES)[0].tolist() if split.oriented else [],
        near_square=int((w < _SQUARE * h).sum()) if split.oriented else 0,
        small=int((short_sides(quads) < split.min_side).sum()),
        partly_outside=_outside(split, measures),
        per_image=(min(counts), int(np.median(counts)), max(counts)),
        **(_conventions(split) if split.oriented else {}),
    )


def _outside(split: SplitData, measures: Mapping[str, ImageMeasures]) -> int:
    """Count boxes that reach beyond their image; note those whose centre does, and those labelled twice."""
    count = 0
    for item in split.items:
        if not len(item.quads):
            continue
        label = item.label or item.images[0]
        rounded = np.round(np.column_stack([item.quads, item.labels]), 2)
        repeated = len(rounded) - len(np.unique(rounded, axis=0))
        example = Example(
            label, f"{repeated} boxes have the corners and class of another one", "leave them out"
        )
        split.report.note(REPEATED_BOXES, [Path(label).name] * repeated, example)
        found = measures.get(item.images[0])
        if found is None:
            continue
        width, height = (item.window[2],) * 2 if item.window else (found.width, found.height)
        x, y = item.quads[:, 0::2], item.quads[:, 1::2]
        beyond = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
        count += int(beyond.any(axis=1).sum())
        middle_x, middle_y = x.mean(axis=1), y.mean(axis=1)
        far = (middle_x < 0) | (middle_y < 0) | (middle_x > width) | (middle_y > height)
        what = f"{int(far.sum())} boxes, the image is {width} x {height} px"
        fix = "check that labels and images are of one version and size"
        split.report.note(PARTLY_OUTSIDE, [Path(label).name] * int(far.sum()), Example(label, what, fix))
    return count


def corner_conventions(quads: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.bool_]], NDArray[np.bool_]]:
    """Return which boxes could have been written from each angle convention, by the order of their corners.

    Programs write the corners of a box from (-w/2, -h/2) on, so that the first edge is ``w`` at the angle
    theta: in ``le90`` and ``le135`` the long side, in ``oc`` the one at an angle in (0, 90].

    Args:
        quads: Corners ``(N, 8)`` as labelled.

    Returns:
        A mask ``(N,)`` of each convention; and which boxes are clear: rectangles that are not nearly square.
    """
    corners = quads.reshape(-1, 4, 2)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 1]
    w, h = np.hypot(*first.T), np.hypot(*second.T)
    skew = np.abs((first * second).sum(axis=1)) / np.maximum(w * h, 1e-9)
    clockwise = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] > 0
    longest = np.maximum(w, h) >= _SQUARE * np.minimum(w, h)
    clear = (np.minimum(w, h) > 0) & (skew < 0.1) & longest
    theta = np.arctan2(first[:, 1], first[:, 0])
    fits = {
        name: clockwise & (w >= h) & _between(theta, np.deg2rad(low), np.deg2rad(high))
        for name, (low, high) in _RANGES.items()
    }
    fits["oc"] = clockwise & _between(theta, 0, np.pi / 2)
    return fits, clear


def _between(theta: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    """Return whether angles in [-pi, pi] are in a range, give or take half a degree at both ends."""
    return np.mod(theta - low + _TOLERANCE, 2 * np.pi) <= high - low + 2 * _TOLERANCE


def _conventions(split: SplitData) -> dict[str, Any]:
    """Return the convention of a split and of its files; note the files that follow another one."""
    found: list[tuple[str, set[str], int]] = []
    for item in split.items:
        fits, clear = corner_conventions(item.quads)
        if clear.sum() >= _LEAST_BOXES:
            names = {name for name, mask in fits.items() if (mask[clear]).mean() >= 1 - _FEW}
            found.append((item.label or item.images[0], names, int(clear.sum())))
    counts = {name: sum(name in names for _, names, _ in found) for name in ("le90", "le135", "oc")}
    best = max(counts, key=counts.__getitem__)
    if not found or counts[best] < _COMMON * len(found) or counts[best] < 2:
        return dict(convention="none", conventions=counts)
    for label, names, boxes in found:
        if best not in names:
            other = _named(names)
            what = f"{boxes} boxes fit {other}; those of {counts[best]} of {len(found)} files fit {best}"
            split.report.note(OTHER_CONVENTION, [Path(label).name], Example(label, what, _FIX_CONVENTION))
    return dict(convention=best, conventions=counts)


def _named(names: Sequence[str] | set[str]) -> str:
    return " or ".join(sorted(names)) if names else "no convention (corners in another order)"
