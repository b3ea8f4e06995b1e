"""Checks of label maps and of pairs of dates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.reports import DatasetReport, Example
from rsfoundation.datasets.pair_check import measure_shift
from rsfoundation.io.label_images import LabelImage
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.io.raster_formats import Palette
from rsfoundation.prepare.check.items import Item, SplitData

OTHER_PALETTE = "label maps with another palette than the others"  # kinds in reports
EXCHANGED_COLOURS = "label maps whose red and blue look exchanged"
SHIFTED = "pairs whose dates are shifted against each other"
SWAPPED = "pairs whose dates look swapped"
SAME_DATES = "pairs with the same image twice"
OTHER_SIZE = "label maps of another size than their image"
_SIDE = 256  # pixels that the shift of a pair is measured at
_LEAST_SHIFT, _LEAST_GAIN = 1.5, 0.05  # pixels of the image; gain of the correlation of edges
_LEAST_RESPONSE, _LEAST_FIT = 0.12, 0.33  # height of the peak, and correlation of edges after the shift
_LEAST_PAIRS = 12  # pairs that an order of dates is learned from
_SURE = 0.9  # share of pairs that must be on the right side
_FAR = 2.0  # standard deviations of the others that a swapped pair is on the wrong side
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d\d)(?!\d)")


@dataclass
class MapMeasures:
    """What a check keeps of the label map of one item.

    Attributes:
        counts: Pixels ``(256,)`` of each class; 255 is ignored.
        palette: Colours of the file, where it has a palette.
        has_ignored: The map, without pixels, where it has the number 255.
    """

    counts: NDArray[np.int64]
    palette: Palette | None = None
    has_ignored: LabelImage | None = None


@dataclass
class PairMeasures:
    """What a check keeps of two dates.

    Attributes:
        shift: Columns and rows by which the second is shifted.
        gain: Correlation of edges that undoing the shift gains.
        features: Difference of their descriptions, second less first.
        equal: Whether both have the same pixels.
    """

    shift: tuple[float, float]
    gain: float
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    equal: bool = False


def measure_pair(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> PairMeasures | None:
    """Return shift and differences of two dates; ``None`` where their sizes differ.

    The shift is the peak of the phase correlation of edges, kept where edges agree better after it.

    Args:
        one: Grey ``(H, W)``.
        other: Grey of the same size.
    """
    if one.shape != other.shape:
        return None
    scale = max(1.0, max(one.shape) / _SIDE)
    size = (max(8, round(one.shape[1] / scale)), max(8, round(one.shape[0] / scale)))
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (one, other)]
    edges = [_edges(picture) for picture in small]
    found = measure_shift(small[0], small[1])
    dx, dy, response = found.right, found.down, found.response
    gain, largest = 0.0, max(abs(dx), abs(dy))
    if largest * scale >= _LEAST_SHIFT and largest < min(size) / 3 and response >= _LEAST_RESPONSE:
        moved = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
        back = cv2.warpAffine(edges[1], moved, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        margin = int(np.ceil(largest)) + 1
        inner = (slice(margin, -margin),) * 2
        fit = _correlation(edges[0][inner], back[inner])
        gain = fit - _correlation(edges[0][inner], edges[1][inner]) if fit >= _LEAST_FIT else 0.0
    features = np.subtract(_description(small[1], edges[1]), _description(small[0], edges[0]))
    equal = bool(np.array_equal(one, other))
    return PairMeasures((dx * scale, dy * scale), gain, features, equal)


def _edges(picture: NDArray[Any]) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(picture, (3, 3), 0)
    return np.asarray(cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))


def _description(picture: NDArray[Any], edges: NDArray[np.float32]) -> NDArray[np.float64]:
    low, middle, high = np.percentile(picture, (10, 50, 90))
    return np.array(
        [picture.mean(), picture.std(), low, middle, high, np.log1p(edges.mean()), np.log1p(edges.std())]
    )


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))


def check_pairs(split: SplitData, found: Mapping[int, PairMeasures]) -> None:
    """Note pairs that are shifted, swapped or twice the same date.

    Args:
        split: The split; its report takes the problems.
        found: Measures by the row of the item.
    """
    shifted = [one.shift for one in found.values() if one.gain > _LEAST_GAIN]
    usual = np.median(shifted or [(0.0, 0.0)], axis=0)
    for row, one in found.items():
        item = split.items[row]
        where, name = item.images[1], f"{Path(item.images[1]).name}"
        if one.equal:
            what, fix = "both dates have the same pixels", "replace one of them by the image of its date"
            split.report.note(SAME_DATES, [name], Example(where, what, fix))
        elif one.gain > _LEAST_GAIN and max(map(abs, one.shift)) >= _LEAST_SHIFT:
            what = (
                f"the second date is {one.shift[0]:.1f} px right of and {one.shift[1]:.1f} px below the first"
            )
            fix = "register the pair, or leave it out"
            if len(found) >= 4 and len(shifted) > len(found) / 2:
                what += f" (usual in this split: {usual[0]:.1f}, {usual[1]:.1f} px)"
            split.report.note(SHIFTED, [name], Example(where, what, fix))


def check_order(pairs: Sequence[tuple[Item, PairMeasures]], report: DatasetReport) -> list[Item]:
    """Note pairs of all splits whose dates look swapped: by the years of their names, or by their looks.

    Dates mostly differ in light, season and sensor. Where one direction separates nearly all pairs, those
    that are far on its other side are named. Each pair is judged by the others.

    Args:
        pairs: Items with their measures.
        report: Takes the problems.

    Returns:
        The items noted.
    """
    named: dict[str, Item] = {}
    for item, what in (*_by_year(pairs), *_by_looks(pairs)):
        if item.images[0] not in named:
            named[item.images[0]] = item
            fix = "exchange the two files, or check their dates"
            report.note(
                SWAPPED, [f"{item.split}/{Path(item.images[0]).name}"], Example(item.images[0], what, fix)
            )
    return list(named.values())


def _by_year(pairs: Sequence[tuple[Item, PairMeasures]]) -> list[tuple[Item, str]]:
    years = []
    for item, _ in pairs:
        first, second = (_YEAR.findall(str(Path(path).name)) for path in item.images)
        if first and second and first[-1] != second[-1]:
            years.append((item, int(first[-1]), int(second[-1])))
    later = sum(second > first for _, first, second in years)
    if len(years) < 2 or later == len(years) - later:
        return []
    forward = later * 2 > len(years)
    return [
        (
            item,
            f"the first date is of {first} and the second of {second}, the other way round than most pairs",
        )
        for item, first, second in years
        if (second > first) != forward
    ]


def _by_looks(pairs: Sequence[tuple[Item, PairMeasures]]) -> list[tuple[Item, str]]:
    kept = [(item, one) for item, one in pairs if not one.equal]
    if len(kept) < _LEAST_PAIRS:
        return []
    features = np.stack([one.features for _, one in kept])
    features = features / np.maximum(features.std(axis=0), 1e-6)
    # Fisher's direction between differences and their negatives is that of the mean; ridge for few pairs
    count, width = features.shape
    gram = features.T @ features / count + 0.1 * np.eye(width)
    inverse = np.linalg.inv(gram)
    scores = np.empty(count)
    total = features.sum(axis=0)
    for row in range(count):
        scores[row] = features[row] @ inverse @ ((total - features[row]) / (count - 1))
    right = scores > 0
    if right.mean() < _SURE:
        return []
    middle, spread = float(np.median(scores)), float(np.median(np.abs(scores - np.median(scores)))) * 1.4826
    limit = -max(middle - _FAR * max(spread, 1e-6), 0.25 * middle)
    return [
        (item, "light and texture change from the second date to the first as from first to second elsewhere")
        for (item, _), score in zip(kept, scores, strict=True)
        if score < limit
    ]


def check_maps(split: SplitData, found: Mapping[int, MapMeasures]) -> None:
    """Note label maps whose palette differs from the others', or whose red and blue look exchanged.

    Args:
        split: The split; its report takes the problems.
        found: Measures by the row of the item.
    """
    palettes = Counter(one.palette for one in found.values())
    common, count = next(iter(palettes.most_common(1)), (None, 0))
    for row, one in found.items():
        if one.palette != common and count > len(found) / 2:
            what = (
                "its palette differs from that of the other label maps"
                if common
                else "it alone has a palette"
            )
            what = what if one.palette else "it has no palette, unlike the other label maps"
            _note(split, OTHER_PALETTE, row, what, "write it with the palette of the others")
    for row in _exchanged(split.palette, {row: one.counts for row, one in found.items()}):
        what = "read with red and blue exchanged, its classes are those of the other label maps"
        _note(split, EXCHANGED_COLOURS, row, what, "write its colours in the order red, green, blue")


def _note(split: SplitData, kind: str, row: int, what: str, fix: str) -> None:
    label = split.items[row].label
    split.report.note(kind, [Path(label).name], Example(label, what, fix))


def _exchanged(palette: Sequence[tuple[int, int, int]], counts: Mapping[int, NDArray[np.int64]]) -> list[int]:
    """Return rows whose classes fit the others' much better with red and blue of the palette exchanged."""
    if len(counts) < 4 or len(palette) < 2:
        return []
    turned = [
        palette.index(colour[::-1]) if colour[::-1] in palette else index
        for index, colour in enumerate(palette)
    ]
    if turned == list(range(len(palette))):
        return []
    shares = {row: one[: len(palette)] / max(1, one[: len(palette)].sum()) for row, one in counts.items()}
    total = np.sum(list(shares.values()), axis=0)
    found = []
    for row, share in shares.items():
        others = np.log((total - share + 1e-3) / (len(shares) - 1))
        if float(share[turned] @ others - share @ others) > 1.0:
            found.append(row)
    return found


def ignored_share(counts: NDArray[np.int64]) -> float:
    """Return the share of pixels that are ignored."""
    return float(counts[IGNORED] / max(1, counts.sum()))
