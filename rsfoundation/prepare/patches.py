"""Cutting one image: patches ``<image>__<window>__<x>___<y>.png`` and their labels.

Labels lie in ``annfiles/`` without header, in patch pixels. Objects cut by the border of a window get
difficulty 2. What a window covers beyond the image is padded.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.oriented.annotations import LabelTable
from rsfoundation.geometry.boxes import is_outside
from rsfoundation.geometry.tiling import PatchName, TilingSettings
from rsfoundation.geometry.windows import Placement, Tile, object_areas, place_objects, tiles_of
from rsfoundation.io.dota import DotaLabel, DotaObject, write_dota_txt
from rsfoundation.io.loading import ImageLoading, LoadedImage, read_window
from rsfoundation.io.rasters import image_size
from rsfoundation.prepare.sources import Source

CUT_DIFFICULTY = 2


@dataclass(frozen=True)
class Plan:
    """How one image is cut.

    Attributes:
        source: The image.
        tiles: Its windows.
        table: Their objects, in pixels of each window.
        counts: What the image adds to the figures of :class:`~.report.TilingReport`.
    """

    source: Source
    tiles: tuple[Tile, ...]
    table: LabelTable
    counts: dict[str, int]

    @property
    def names(self) -> list[str]:
        """Names of the patches."""
        return [str(PatchName(self.source.name, tile.size, tile.x, tile.y)) for tile in self.tiles]


BROKEN = {"broken": 1}  # what an image that is left out adds to the figures


def plan_image(cut: TilingSettings, on_error: Policy, source: Source) -> Plan | None:
    """Lay out the windows of one image: by the head of its file under ``fail``, decoding it under ``skip``.

    Returns:
        The plan; ``None`` for a broken image or label file under ``skip``.

    Raises:
        DataError: Under ``fail``, the head of the image or its labels are broken.
    """
    if on_error == "skip":
        opened = _open(cut, on_error, source)
        return opened[0] if opened else None
    return _plan(cut, source, _read_label(source, on_error), *image_size(source.image))


def tile_image(
    folder: Path, cut: TilingSettings, on_error: Policy, pool: ThreadPoolExecutor, source: Source
) -> dict[str, int]:
    """TilingSettings one image and write its patches.

    Args:
        folder: Has ``images`` and, for labelled sources, ``annfiles``.
        cut: Windows and thresholds.
        on_error: What is done about broken files; see :func:`~.dota.cut_dota`.
        pool: Writes the patches.
        source: What to cut.

    Returns:
        What the image adds to the figures of :class:`~.report.TilingReport`.

    Raises:
        DataError: Under ``fail``, the image or its labels are broken; a patch cannot be written.
    """
    opened = _open(cut, on_error, source)
    if opened is None:
        return BROKEN
    plan, pixels = opened
    save = partial(_save_patch, folder, pixels, source.labelled)
    list(pool.map(save, plan.names, plan.tiles, plan.table.objects()))
    return plan.counts


def _open(cut: TilingSettings, on_error: Policy, source: Source) -> tuple[Plan, LoadedImage] | None:
    """Open an image and lay out its windows; under ``skip`` each is read once, so that none fails later.

    Returns:
        Plan and image; ``None`` for a broken image or label file under ``skip``.

    Raises:
        DataError: Under ``fail``, the image or its labels are broken.
    """
    try:
        label = _read_label(source, on_error)
        pixels = ImageLoading().open(source.image, decode_limit=None)
        plan = _plan(cut, source, label, pixels.width, pixels.height)
        if on_error == "skip":
            for tile in plan.tiles:
                pixels.read(Window(tile.x, tile.y, tile.size, tile.size))
    except DataError:
        if on_error == "fail":
            raise
        return None
    return plan, pixels


def _plan(cut: TilingSettings, source: Source, label: DotaLabel, width: int, height: int) -> Plan:
    tiles = tiles_of(cut, width, height)
    kept, left_out = _kept(label, width, height)
    objects = LabelTable.of([kept])
    placements = place_objects(objects.quads, tiles, cut.min_object_share)
    counts = {**left_out, **_count(len(kept), placements), "objects": len(label.objects)}
    return Plan(source, tuple(tiles), _in_windows(objects, tiles, placements), counts)


def _kept(label: DotaLabel, width: int, height: int) -> tuple[tuple[DotaObject, ...], dict[str, int]]:
    """Return the objects that have an area within reach of the image; count what is left out.

    The padding of a window larger than the image would hold the others: data sets leave them out, too.
    """
    quads = np.array([item.quad for item in label.objects], dtype=np.float64).reshape(-1, 8)
    flat = object_areas(quads) == 0
    outside = ~flat & is_outside(quads, (width, height))
    kept = tuple(item for item, gone in zip(label.objects, flat | outside, strict=True) if not gone)
    counts = {"degenerate": int(flat.sum()), "outside": int(outside.sum()), "malformed": len(label.skipped)}
    return kept, counts


def _read_label(source: Source, on_error: Policy) -> DotaLabel:
    if source.label is not None:
        return source.read(source.label, on_error)
    if source.labelled:
        raise DataError(
            "the image has no label file",
            where=source.image,
            fix="add the label file, with no object where the image shows none, or leave such images out "
            f"with {SKIPPING}",
        )
    return DotaLabel(())


def _save_patch(
    folder: Path, pixels: LoadedImage, labelled: bool, name: str, tile: Tile, objects: Sequence[DotaObject]
) -> None:
    path = folder / "images" / f"{name}.png"
    if not cv2.imwrite(str(path), read_window(pixels, tile.x, tile.y, tile.size)):
        raise DataError("cannot write the patch", where=path, fix="check free space and permissions")
    if labelled:
        write_dota_txt(folder / "annfiles" / f"{name}.txt", objects)


def _in_windows(objects: LabelTable, tiles: Sequence[Tile], placements: Sequence[Placement]) -> LabelTable:
    """Return the objects of each window in its pixels, to a hundredth as label files hold them."""
    counts = [len(placement.index) for placement in placements]
    rows = np.array([row for placement in placements for row in placement.index], dtype=np.int64)
    cut = np.array([value for placement in placements for value in placement.cut], dtype=np.bool_)
    corner = np.repeat([(tile.x, tile.y) for tile in tiles], counts, axis=0).reshape(-1, 2)
    return LabelTable(
        ends=np.cumsum(counts, dtype=np.int64),
        quads=np.round(objects.quads[rows] - np.tile(corner, 4), 2),
        kinds=objects.kinds[rows],
        names=objects.names,
        difficulties=np.where(cut, CUT_DIFFICULTY, objects.difficulties[rows]).astype(np.int32),
        lines=objects.lines[rows],
        short_sides=objects.short_sides[rows],
        crossed=objects.crossed[rows],
    )


def _count(objects: int, placements: Sequence[Placement]) -> dict[str, int]:
    return {
        "images": 1,
        "patches": len(placements),
        "empty_patches": sum(not placement.index for placement in placements),
        "placed": sum(len(placement.index) for placement in placements),
        "cut": sum(sum(placement.cut) for placement in placements),
        "lost": objects - len({index for placement in placements for index in placement.index}),
    }
