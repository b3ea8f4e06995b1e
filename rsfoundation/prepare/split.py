"""Splits whose parts do not share scenes or ground: groups of images are kept together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from rsfoundation.core.choices import GroupBy
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import replacing
from rsfoundation.io.dota import IMAGE_SUFFIXES
from rsfoundation.io.rasters import RasterReader
from rsfoundation.prepare.check.images import footprint_of
from rsfoundation.prepare.check.leakage import scene_of

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitLists:
    """The lists that were written.

    Attributes:
        files: The list of each split: one image a line, relative to the folder, without suffix.
        images: Images of each split.
        groups: Groups of each split.
    """

    files: dict[str, Path]
    images: dict[str, int]
    groups: dict[str, int]


def split_images(
    folder: Path,
    out: Path,
    *,
    by: GroupBy = "scene",
    shares: Sequence[float] = (0.8, 0.2),
    block: float = 1000.0,
    seed: int = 0,
) -> SplitLists:
    """Divide the images of a folder into splits that share no scene or no ground, and write their lists.

    ``scene`` keeps windows of one scene together, by their names. ``grid`` keeps images of one square of the
    ground together, ``region`` images whose extents overlap or touch; both need georeferenced files. Where
    the extents of two groups of a grid overlap, the groups become one.

    Args:
        folder: With the images, in folders or not.
        out: Folder for ``train.txt``, ``val.txt``, ``test.txt``.
        by: What is kept together.
        shares: Of the images, for two or three splits.
        block: Side of the squares of a grid, in units of the CRS.
        seed: Another seed makes other splits of the same groups.

    Raises:
        ConfigError: The shares are not two or three positive numbers.
        DataError: There are no images, or fewer groups than splits; an extent is needed and a file has none.
    """
    if len(shares) not in (2, 3) or min(shares) <= 0:
        raise ConfigError(
            f"shares are {list(shares)}", where="shares", fix="give two or three, such as 0.8,0.1,0.1"
        )
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError("there is no image", where=folder, fix="point at the folder of the images")
    groups = _groups(images, by, block)
    if len(groups) < len(shares):
        what = f"{len(images)} images are of {len(groups)} groups: too few for {len(shares)} splits"
        raise DataError(what, where=folder, fix="choose smaller blocks, or group otherwise")
    chosen = _assign(groups, shares, seed)
    lists, counts = {}, {}
    for number, name in enumerate(SPLITS[: len(shares)]):
        mine = sorted(
            path for group, split in zip(groups, chosen, strict=True) if split == number for path in group
        )
        lists[name], counts[name] = out / f"{name}.txt", len(mine)
        with replacing(lists[name]) as temporary:
            lines = [str(path.relative_to(folder).with_suffix("")) for path in mine]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return SplitLists(lists, counts, {name: chosen.count(number) for number, name in enumerate(lists)})


def _groups(images: Sequence[Path], by: GroupBy, block: float) -> list[list[Path]]:
    if by == "scene":
        found: dict[str, list[Path]] = defaultdict(list)
        for path in images:
            found[scene_of(path.stem)[0]].append(path)
        return list(found.values())
    shapes = [_extent(path) for path in images]
    parents = list(range(len(images)))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = row = parents[parents[row]]
        return row

    if by == "grid":
        cells: dict[tuple[int, int], int] = {}
        for row, shape in enumerate(shapes):
            centre = shape.centroid
            cell = (int(np.floor(centre.x / block)), int(np.floor(centre.y / block)))
            parents[root(row)] = root(cells.setdefault(cell, row))
    tree = shapely.STRtree(shapes)
    for a, b in zip(*tree.query(np.array(shapes), predicate="intersects").tolist(), strict=True):
        if a < b and (by == "region" or shapely.intersection(shapes[a], shapes[b]).area > 0):
            parents[root(a)] = root(b)
    joined: dict[int, list[Path]] = defaultdict(list)
    for row, path in enumerate(images):
        joined[root(row)].append(path)
    return list(joined.values())


def _extent(path: Path) -> shapely.Polygon:
    with RasterReader(path) as reader:
        corners = footprint_of(reader.georeference, reader.width, reader.height)
    if corners is None:
        raise DataError(
            "the image has no CRS and transform",
            where=path,
            fix="group by scene: --by scene, or georeference the files",
        )
    return shapely.Polygon(corners)


def _assign(groups: Sequence[Sequence[Path]], shares: Sequence[float], seed: int) -> list[int]:
    """Give each group a split: large groups first, each to the split that lacks most of its share."""
    total, wanted = sum(map(len, groups)), np.array(shares) / sum(shares)

    def key(row: int) -> tuple[int, str]:
        return -len(groups[row]), hashlib.sha256(f"{seed} {groups[row][0].name}".encode()).hexdigest()

    chosen, have = [0] * len(groups), np.zeros(len(shares))
    for place, row in enumerate(sorted(range(len(groups)), key=key)):
        empty = np.flatnonzero(have == 0)
        left = len(groups) - place
        split = int(empty[0]) if len(empty) >= left else int(np.argmax(wanted - have / total))
        chosen[row] = split
        have[split] += len(groups[row])
    return chosen
