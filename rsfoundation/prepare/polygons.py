"""Label maps of polygons: those of a COCO json, and of vector files over rasters or plain images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.choices import PolygonSource
from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    refuse_foreign,
    refuse_own_sources,
    staging_folder,
)
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.oriented.label_tools import polygons_of, vector_files
from rsfoundation.datasets.segmentation import read_class_file
from rsfoundation.io.coco import decode_mask
from rsfoundation.io.label_maps import IGNORED, write_indexed_png
from rsfoundation.io.rasters import RasterReader
from rsfoundation.io.vectors import class_names
from rsfoundation.prepare.check.items import Item, read_splits
from rsfoundation.prepare.maps import PreparedMaps
from rsfoundation.visualization import palette

MAKER = "rsfoundation prepare masks"
BACKGROUND = "background"
_OUTSIDE = "objects beyond their image"  # kinds in reports
_FAULTY = "images and labels that cannot be used"
_MOST_CLASSES = 255

Colour = tuple[int, int, int]
Job = tuple[Path, Callable[..., Any]]  # an image, and what draws its labels


class _Rows:
    """A label map that is drawn from shapes, by rows, when they are read.

    Args:
        raster: The image; its pixels without data are ignored.
        shapes: In pixel edges, those on top last.
        labels: Class of each.
        empty: Label of pixels that no shape covers.
    """

    def __init__(
        self, raster: RasterReader, shapes: NDArray[Any], labels: NDArray[np.int64], empty: int
    ) -> None:
        self.shape = (raster.height, raster.width)
        self._raster, self._shapes, self._labels, self._empty = raster, shapes, labels, empty
        self._tree, self._touched = shapely.STRtree(shapes), np.zeros(len(shapes), np.bool_)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        from rasterio import Affine
        from rasterio.features import rasterize

        top, bottom, _ = rows.indices(self.shape[0])
        drawn = np.full((bottom - top, self.shape[1]), self._empty, np.uint8)
        touching = np.sort(self._tree.query(shapely.box(0, top, self.shape[1], bottom), "intersects"))
        if len(touching):
            pairs = list(zip(self._shapes[touching], self._labels[touching].tolist(), strict=True))
            rasterize(pairs, out=drawn, transform=Affine.translation(0, top))
            self._touched[touching] = True
        drawn[~self._raster.valid_mask(Window(0, top, self.shape[1], bottom - top))] = IGNORED
        return drawn

    def note_outside(self, report: DatasetReport) -> None:
        """Count the shapes that no row touched, after all were read."""
        report.note(_OUTSIDE, [self._raster.path.name] * int((~self._touched).sum()))


def draw_label_maps(
    kind: PolygonSource,
    root: Path,
    out: Path,
    *,
    splits: Sequence[str] = (),
    classes: Path | None = None,
    class_column: str = "class",
    background: bool = True,
    on_error: Policy = "fail",
    workers: int = 2,
) -> PreparedMaps:
    """Draw polygons as label maps: ``img_dir/<split>`` (links) and ``ann_dir/<split>``, made when complete.

    A pixel belongs to a polygon that its centre is in. Of several the smallest counts, so that a car on a
    road is a car. COCO's crowds, and pixels without data of rasters with vector files, are ignored (255).
    Vector files are drawn by rows: a scene of any size takes little memory.

    Args:
        kind: ``coco``: a COCO json in any layout that `rsf check` knows. ``vector``: ``<split>/images`` with
            ``labels/<image>.gpkg`` (or geojson, parquet, fgb, shp), or with one such file for all images.
        root: Folder of the data set.
        out: Folder to make.
        splits: Folders below ``root`` (``.``: itself) or, of COCO, splits; of COCO all where none are given.
        classes: File of class names, one a line, with a colour or without; all names of the labels in
            alphabetical order (of COCO: in the order of the categories) where it is not given.
        class_column: Of vector files: the column of class names.
        background: Pixels of no polygon are class 0, ``background``; else they are ignored.
        on_error: ``fail`` stops at broken images and labels; ``skip`` leaves them out and counts them.
        workers: Threads.

    Raises:
        ConfigError: There is no such kind or split, or there are more than 255 classes.
        DataError: Files are missing or broken, or ``out`` holds something else.
    """
    check_choice("kind", kind, get_args(PolygonSource), "draw_label_maps")
    root, out = Path(root), Path(out)
    jobs, found, report = (
        _of_coco(root, splits) if kind == "coco" else _of_vectors(root, splits, class_column)
    )
    given: dict[str, list[Any]] = read_class_file(classes) if classes is not None else {"classes": found}
    added = [BACKGROUND] if background and BACKGROUND not in given["classes"] else []
    names, empty = [*added, *given["classes"]], IGNORED
    if background:
        empty = names.index(BACKGROUND)
    if not 0 < len(names) <= _MOST_CLASSES:
        raise ConfigError(f"{len(names)} classes", where="classes", fix=f"name 1 to {_MOST_CLASSES} classes")
    colours = _colours(names, given.get("palette"))
    refuse_own_sources(out, [image for images in jobs.values() for image, _ in images])
    parameters = dict(kind=kind, source=str(root.resolve()), classes=names, on_error=on_error)
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        with staging_folder(out) as staging:
            for split, images in jobs.items():
                draw = partial(_draw, staging, split, names, colours, empty)
                for one in run_jobs(draw, images, workers=workers, title=f"drawing {split}"):
                    report.merge(one)
            report.enforce(on_error)
            tiles = {split: len([*(staging / "ann_dir" / split).glob("*.png")]) for split in jobs}
            report.images = sum(tiles.values())
            if not report.images:
                raise DataError(f"no image is left: left out {report.describe()}", where=root)
            content = dict(tiles=tiles, report=report.to_json(), classes=names, palette=colours)
            publish(staging, out, Manifest(MAKER, parameters, content))
    return PreparedMaps(out, report, tiles)


def _colours(names: Sequence[str], given: Sequence[Sequence[int]] | None) -> list[Colour]:
    """Return a colour for each class; black for a background that the class file does not name."""
    colours: list[Colour] = [(red, green, blue) for red, green, blue in given or palette(len(names))]
    first: list[Colour] = (
        [(0, 0, 0)] if names[0] == BACKGROUND and (not given or len(given) < len(names)) else []
    )
    return [*first, *colours][: len(names)]


def _draw(
    staging: Path,
    split: str,
    names: Sequence[str],
    colours: Sequence[Colour],
    empty: int,
    job: Job,
) -> DatasetReport:
    """Draw the label map of one image, and link the image."""
    image, drawing = job
    report = DatasetReport()
    try:
        with RasterReader(image) as raster:
            labels = drawing(raster, names, empty, report)
            write_indexed_png(labels, colours, staging / "ann_dir" / split / f"{image.stem}.png")
            if isinstance(labels, _Rows):
                labels.note_outside(report)
    except DataError as error:
        report.error(_FAULTY, error, image)
        return report
    link = staging / "img_dir" / split / image.name
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(image.resolve())
    except OSError:  # a file system, or a user of Windows, without links
        shutil.copy2(image, link)
    return report


def _of_coco(root: Path, splits: Sequence[str]) -> tuple[dict[str, list[Job]], list[str], DatasetReport]:
    """Return the images of each split with what draws them, the classes, and what the reader found."""
    report = DatasetReport()
    data = {split.name: split for split in read_splits(root, kind="coco")}
    missing = [name for name in splits if name not in data]
    if missing:
        raise ConfigError(
            f"there is no split {missing[0]!r}", where="splits", fix=f"one of {', '.join(data)}"
        )
    chosen = [data[name] for name in splits or data]
    jobs = dict[str, list[Job]]()
    for split in chosen:
        report.merge(split.report)
        jobs[split.name] = [
            (Path(item.images[0]), partial(_coco_labels, item, split.classes)) for item in split.items
        ]
    return jobs, list(dict.fromkeys(name for split in chosen for name in split.classes)), report


def _coco_labels(
    item: Item,
    classes: Sequence[str],
    raster: RasterReader,
    names: Sequence[str],
    empty: int,
    report: DatasetReport,
) -> NDArray[np.uint8]:
    size = (raster.height, raster.width)
    labels = np.full(size, empty, np.uint8)
    masks = []
    for found in item.entry.get("instances") or ():
        name = classes[found["bbox_label"]]
        value = IGNORED if found.get("ignore_flag") else _label_of(name, names, item.entry["img_path"])
        inside = decode_mask(found["mask"], *size).astype(np.bool_)
        masks.append((int(inside.sum()), inside, value))
    for _, inside, value in sorted(masks, key=lambda one: (one[2] != IGNORED, -one[0])):
        labels[inside] = value
    report.objects = len(masks)
    return labels


def _of_vectors(
    root: Path, splits: Sequence[str], column: str
) -> tuple[dict[str, list[Job]], list[str], DatasetReport]:
    """Return the images of each split with what draws them, the classes, and what is missing."""
    if not splits:
        raise ConfigError(
            "no split is named", where="splits", fix="a folder such as train; . for the folder itself"
        )
    report, jobs, names = DatasetReport(), dict[str, list[Job]](), set[str]()
    for split in splits:
        files = vector_files(root / split, report)
        jobs[Path(split).name or "all"] = [
            (image, partial(_vector_labels, image, label, common, column)) for image, label, common in files
        ]
        for label in dict.fromkeys(label for _, label, _ in files):
            with suppress(DataError):  # reported when it is drawn
                names.update(class_names(label, column))
    return jobs, sorted(names), report


def _vector_labels(
    image: Path,
    label: Path,
    common: bool,
    column: str,
    raster: RasterReader,
    names: Sequence[str],
    empty: int,
    report: DatasetReport,
) -> _Rows:
    shapes, found, _ = polygons_of(image, raster.georeference, label, common=common, column=column)
    order = np.argsort(-shapely.area(shapes), kind="stable")
    values = np.array([_label_of(name, names, label) for name in found], np.int64)
    report.objects = len(shapes)
    return _Rows(raster, shapes[order], values[order], empty)


def _label_of(name: str, names: Sequence[str], where: str | Path) -> int:
    if name not in names:
        hint = nearest(name, names)
        what = f"class {name!r} is not in the list{f'; {hint}' if hint else ''}"
        raise DataError(what, where=where, fix="add it to the file of classes, or rename the objects")
    return names.index(name)
