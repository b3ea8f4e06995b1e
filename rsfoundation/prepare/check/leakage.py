"""Duplicates and leakage between splits: by name, by content, by extent on the ground."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport, Example
from rsfoundation.io.dota import parse_patch_name
from rsfoundation.prepare.check.images import ImageMeasures, same_pixels
from rsfoundation.prepare.check.items import Item

SAME_PIXELS = "images that are in two splits"  # kinds in reports
NEAR_COPIES = "near copies of images in two splits"
SAME_GROUND = "images in two splits that show the same ground"
SAME_EXTENT = "images in two splits whose extents overlap"
SAME_WINDOW = "windows in two splits that overlap in one scene"
SAME_SCENE = "windows of one scene in two splits"
REPEATED = "images that are in a split more than once"
_BITS = 6  # of 256 bits of the hash that near copies may differ in
_ALIKE = 0.98  # correlation of the small pictures of near copies
_FLAT = 0.02  # contrast below which images are too plain to be compared
_LEAST_ANCHORS, _LEAST_SHARE = 6, 0.5  # squares in common, and their share of those in the common part
_MOST_OWNERS = 32  # a square of more images than this is a common texture
_LEAST_OVERLAP = 0.001  # of the smaller footprint; the edges of neighbours touch
_FIX = "keep it in one split: `rsf prepare split` makes splits that share no scene and no ground"
Place = tuple[str, tuple[int, int, int, int] | None]
_CORNERS = re.compile(r"(?P<scene>.+?)_(\d+)_(\d+)_(\d+)_(\d+)")
_OFFSETS = re.compile(r"(?P<scene>.+?)_(\d{3,})_(\d{3,})")


class Twin(NamedTuple):
    """Two images that should not be in two splits, or twice in one.

    Attributes:
        one: The first.
        other: The second.
        what: What they have in common.
    """

    one: Item
    other: Item
    what: str


def scene_of(name: str) -> Place:
    """Return the scene that a file name names, and the window ``x1 y1 x2 y2`` where it is sure.

    Known are DOTA's patches (``P1__1024__0___824``), iSAID's and HRSID's (``P1_0_896_512_1408``:
    rows, then columns), mmsegmentation's (``2_10_0_0_512_512``: corners) and pairs of offsets of three
    digits or more (``train_36_0512_0256``).

    Args:
        name: Without suffix.
    """
    patch = parse_patch_name(name)
    if patch is not None:
        side = patch.window if patch.window > 1 else 0
        return patch.image, (patch.x, patch.y, patch.x + side, patch.y + side) if side else None
    match = _CORNERS.fullmatch(name)
    if match is not None:
        a, b, c, d = (int(value) for value in match.groups()[1:])
        rows, corners = a < b and c < d, a < c and b < d
        if rows or corners:
            window = None if rows and corners else (c, a, d, b) if rows else (a, b, c, d)
            return match["scene"], window
    match = _OFFSETS.fullmatch(name)
    return (match["scene"], None) if match is not None else (name, None)


def find_leakage(
    items: Sequence[Item], measures: Mapping[str, ImageMeasures]
) -> tuple[DatasetReport, dict[str, list[Twin]]]:
    """Compare all images with each other.

    Args:
        items: The samples of all splits.
        measures: Of each image file that could be read.

    Returns:
        The problems, and pairs of each kind.
    """
    report, pairs = DatasetReport(), defaultdict[str, list[Twin]](list)
    seen: set[tuple[str, str]] = set()
    first = [item for item in items if item.images[0] in measures]
    for kind, twin in (*_by_content(first, measures), *_by_extent(first, measures), *_by_name(items)):
        key = (min(twin.one.images[0], twin.other.images[0]), max(twin.one.images[0], twin.other.images[0]))
        if kind not in (SAME_WINDOW, SAME_SCENE):
            if key in seen:
                continue
            seen.add(key)
        pairs[kind].append(twin)
    for kind, twins in pairs.items():
        for twin in twins:
            _count(report, kind, twin)
    return report, dict(pairs)


def _count(report: DatasetReport, kind: str, twin: Twin) -> None:
    where = f"{twin.one.images[0]} ({twin.one.split}), {twin.other.images[0]} ({twin.other.split})"
    name = f"{twin.other.split}/{Path(twin.other.images[0]).name}"
    if kind in (REPEATED, SAME_SCENE):
        fix = "leave one out" if kind == REPEATED else _FIX
        report.note(kind, [name], Example(where, twin.what, fix))
        return
    report.error(kind, DataError(twin.what, where=where, fix=_FIX), name)


def _by_content(items: Sequence[Item], measures: Mapping[str, ImageMeasures]) -> Iterator[tuple[str, Twin]]:
    """Yield copies, near copies, and crops of the same pixels at another offset."""
    unique = list({item.images[0]: item for item in items}.values())
    found = [measures[item.images[0]] for item in unique]
    clear = [row for row, one in enumerate(found) if one.contrast >= _FLAT]
    if not clear:
        return
    pictures = np.stack([one.thumbnail for one in found]).reshape(len(found), -1).astype(np.float32)
    pictures -= pictures.mean(axis=1, keepdims=True)
    pictures /= np.maximum(np.linalg.norm(pictures, axis=1, keepdims=True), 1e-6)
    bits = np.stack([one.bits for one in found])
    for a, b in _near_pairs(bits, np.array(clear)):
        if float(pictures[a] @ pictures[b]) < _ALIKE:
            continue
        one, other = unique[a], unique[b]
        equal = (found[a].width, found[a].height) == (found[b].width, found[b].height) and same_pixels(
            one.images[0], other.images[0]
        )
        if one.split == other.split:
            if equal:
                yield REPEATED, Twin(one, other, "the same pixels")
            continue
        what = "the same pixels" if equal else "nearly the same picture"
        yield SAME_PIXELS if equal else NEAR_COPIES, Twin(one, other, what)
    yield from _shifted(unique, found)


def _near_pairs(bits: NDArray[np.uint64], rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose hashes ``(N, 4)`` differ in few bits.

    Of hashes that differ in up to seven bits, one of eight parts of 32 bits is equal: only rows with an
    equal part are compared.
    """
    parts = bits.view(np.uint32).reshape(len(bits), 8)
    done: set[tuple[int, int]] = set()
    for part in range(8):
        order = rows[np.argsort(parts[rows, part], kind="stable")]
        edges = np.flatnonzero(np.diff(parts[order, part])) + 1
        for group in np.split(order, edges):
            if not 1 < len(group) <= 4096:
                continue
            for place, row in enumerate(group[:-1]):
                others = group[place + 1 :]
                near = np.bitwise_count(bits[others] ^ bits[row]).sum(axis=1) <= _BITS
                for other in others[near].tolist():
                    pair = (min(int(row), other), max(int(row), other))
                    if pair not in done:
                        done.add(pair)
                        yield pair


def _shifted(items: Sequence[Item], found: Sequence[ImageMeasures]) -> Iterator[tuple[str, Twin]]:
    """Yield images of two splits with equal squares at one common offset."""
    prints = np.concatenate([one.anchors for one in found])
    owners = np.repeat(np.arange(len(found)), [len(one.anchors) for one in found])
    places = np.concatenate([one.places for one in found]).astype(np.int64)
    numbers = {split: number for number, split in enumerate({item.split: None for item in items})}
    split_of = np.array([numbers[item.split] for item in items])[owners] if len(owners) else owners
    order = np.argsort(prints, kind="stable")
    shared: dict[tuple[int, int, int, int], int] = defaultdict(int)
    for group in np.split(order, np.flatnonzero(np.diff(prints[order])) + 1):
        if not 1 < len(group) <= _MOST_OWNERS or len(set(split_of[group].tolist())) < 2:
            continue
        for i, j in combinations(group.tolist(), 2):
            if split_of[i] != split_of[j]:
                dx, dy = (places[i] - places[j]).tolist()
                shared[int(owners[i]), int(owners[j]), dx, dy] += 1
    for (a, b, dx, dy), count in shared.items():
        if count < _LEAST_ANCHORS:
            continue
        one, other = found[a], found[b]
        x, y = one.places.T
        inside = (x >= dx) & (y >= dy) & (x < dx + other.width - 8) & (y < dy + other.height - 8)
        if count >= _LEAST_SHARE * inside.sum():
            width = min(one.width, dx + other.width) - max(0, dx)
            height = min(one.height, dy + other.height) - max(0, dy)
            what = f"the same pixels over {width} x {height} px, at an offset of {dx}, {dy} px"
            yield SAME_GROUND, Twin(items[a], items[b], what)


def _by_extent(items: Sequence[Item], measures: Mapping[str, ImageMeasures]) -> Iterator[tuple[str, Twin]]:
    """Yield images of two splits whose footprints overlap; those of another CRS are transformed."""
    unique = [one for one in {i.images[0]: i for i in items}.values() if measures[one.images[0]].crs]
    if len({item.split for item in unique}) < 2:
        return
    crs = {measures[item.images[0]].crs for item in unique}
    common = None if len(crs) == 1 else "EPSG:4326"
    shapes = np.array([_shape(measures[item.images[0]], common) for item in unique])
    tree = shapely.STRtree(shapes)
    for a, b in zip(*tree.query(shapes, predicate="intersects").tolist(), strict=True):
        if a >= b or unique[a].split == unique[b].split:
            continue
        area = shapely.intersection(shapes[a], shapes[b]).area
        share = area / max(min(shapes[a].area, shapes[b].area), 1e-12)
        if share > _LEAST_OVERLAP:
            what = f"their extents on the ground overlap by {share:.0%} of the smaller one"
            yield SAME_EXTENT, Twin(unique[a], unique[b], what)


def _shape(measures: ImageMeasures, crs: str | None) -> shapely.Polygon:
    corners = measures.footprint
    assert corners is not None  # it comes with the CRS
    if crs is not None and measures.crs != crs:
        from rasterio.warp import transform  # a CRS is known, thus rasterio is installed

        edges = np.concatenate(
            [
                np.linspace(a, b, 8, endpoint=False)
                for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)
            ]
        )
        corners = np.stack(transform(measures.crs, crs, *edges.T), axis=1)
    return shapely.Polygon(corners)


def _by_name(items: Iterable[Item]) -> Iterator[tuple[str, Twin]]:
    """Yield windows of one scene in two splits: those that overlap, and one pair of the others."""
    scenes = defaultdict[str, list[tuple[Item, Place]]](list)
    for item in items:
        place = scene_of(item.name)
        if place[0] != item.name:
            scenes[place[0]].append((item, place))
    for scene, members in scenes.items():
        splits = list({item.split: None for item, _ in members})
        for first, second in combinations(splits, 2):
            mine = [(item, place[1]) for item, place in members if item.split == first]
            theirs = [(item, place[1]) for item, place in members if item.split == second]
            overlapping = list(_overlapping(mine, theirs))
            for one, other, what in overlapping:
                yield SAME_WINDOW, Twin(one, other, f"{what} of scene {scene}")
            if not overlapping:
                count = f"{len(mine)} and {len(theirs)} windows"
                yield (
                    SAME_SCENE,
                    Twin(mine[0][0], theirs[0][0], f"scene {scene} has {count} in {first} and {second}"),
                )


def _overlapping(
    mine: Sequence[tuple[Item, tuple[int, int, int, int] | None]],
    theirs: Sequence[tuple[Item, tuple[int, int, int, int] | None]],
) -> Iterator[tuple[Item, Item, str]]:
    for one, here in mine:
        for other, there in theirs:
            if here is None or there is None:
                continue
            width = min(here[2], there[2]) - max(here[0], there[0])
            height = min(here[3], there[3]) - max(here[1], there[1])
            if width > 0 and height > 0:
                yield one, other, f"{width} x {height} px in common"
