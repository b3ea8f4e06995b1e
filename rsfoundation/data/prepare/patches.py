"""Cutting one image: patches ``<image>__<window>__<x>___<y>.png`` and their labels.

Labels lie in ``annfiles/`` without header, in patch pixels. Objects cut by the border of a window get
difficulty 2. What a window covers beyond the image is padded.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.prepare.pixels import Pixels, open_pixels
from rsfoundation.data.tiling import Placement, Tile, object_areas, place_objects, tiles_of
from rsfoundation.detection.cuts import Cut
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import DotaLabel, DotaObject, Policy, read_dota_txt, write_dota_txt

PADDING = (104, 116, 124)  # BGR; the value of DOTA's and mmrotate's tools
CUT_DIFFICULTY = 2


@dataclass(frozen=True)
class Source:
    """An image and its label file; ``labelled`` tells a missing file from a split without labels."""

    image: Path
    label: Path | None
    labelled: bool


def cut_image(
    folder: Path, cut: Cut, on_error: Policy, pool: ThreadPoolExecutor, source: Source
) -> dict[str, int]:
    """Cut one image and write its patches.

    Args:
        folder: Has ``images`` and, for labelled sources, ``annfiles``.
        cut: Windows and thresholds.
        on_error: What is done about broken files; see :func:`~.dota.cut_dota`.
        pool: Writes the patches.
        source: What to cut.

    Returns:
        What the image adds to the figures of :class:`~.dota.CutReport`.

    Raises:
        DataError: Under ``fail``, the image or its labels are broken; a patch cannot be written.
    """
    try:
        label = _read_label(source, on_error)
        pixels = open_pixels(source.image)
    except DataError:
        if on_error == "fail":
            raise
        return {"broken": 1}
    tiles = tiles_of(cut, pixels.width, pixels.height)
    quads = np.array([item.quad for item in label.objects]).reshape(-1, 8)
    placements = place_objects(quads, tiles, cut.min_object_share)
    save = partial(_save_patch, folder, source, pixels, label.objects)
    list(pool.map(save, tiles, placements))
    return _count(label, quads, placements)


def _read_label(source: Source, on_error: Policy) -> DotaLabel:
    if source.label is not None:
        return read_dota_txt(source.label, on_error)
    if source.labelled:
        raise DataError(
            "the image has no label file",
            where=source.image,
            cure="add an empty .txt for an image without objects, or skip such images with on_error='skip'",
        )
    return DotaLabel(())


def _save_patch(
    folder: Path,
    source: Source,
    pixels: Pixels,
    objects: Sequence[DotaObject],
    tile: Tile,
    placement: Placement,
) -> None:
    name = f"{source.image.stem}__{tile.size}__{tile.x}___{tile.y}"
    part = pixels.read(tile)
    patch = np.empty((tile.size, tile.size, 3), dtype=np.uint8)
    patch[...] = PADDING
    patch[: part.shape[0], : part.shape[1]] = part
    path = folder / "images" / f"{name}.png"
    if not cv2.imwrite(str(path), patch):
        raise DataError("cannot write the patch", where=path, cure="check free space and permissions")
    if not source.labelled:
        return
    moved = [
        _into(objects[index], tile, cut) for index, cut in zip(placement.index, placement.cut, strict=True)
    ]
    write_dota_txt(folder / "annfiles" / f"{name}.txt", moved)


def _into(item: DotaObject, tile: Tile, cut: bool) -> DotaObject:
    """Return an object in the pixels of a window."""
    quad = tuple(value - (tile.x, tile.y)[position % 2] for position, value in enumerate(item.quad))
    return replace(item, quad=quad, difficulty=CUT_DIFFICULTY if cut else item.difficulty)


def _count(label: DotaLabel, quads: NDArray, placements: Sequence[Placement]) -> dict[str, int]:
    placed = {index for placement in placements for index in placement.index}
    flat = set(np.flatnonzero(object_areas(quads) == 0).tolist())
    return {
        "images": 1,
        "patches": len(placements),
        "empty_patches": sum(not placement.index for placement in placements),
        "objects": len(quads),
        "placed": sum(len(placement.index) for placement in placements),
        "cut": sum(sum(placement.cut) for placement in placements),
        "lost": len(quads) - len(placed | flat),
        "degenerate": len(flat),
        "malformed": len(label.skipped),
    }
