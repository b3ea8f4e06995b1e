"""Instances of data sets that do not come as COCO json: WHU Building's masks, NWPU VHR-10's text files,
iSAID's instance masks, and connected components of any label maps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.core.files import write_json
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import SKIPPING, DatasetReport, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.instance import NWPUInsSegDataset
from rsfoundation.datasets.segmentation import ISAIDDataset
from rsfoundation.geometry.masks import CroppedMask
from rsfoundation.io.dota import IMAGE_SUFFIXES, MALFORMED_LINES, read_lines
from rsfoundation.io.label_images import as_palette, decode_mask, read_label_image, unknown_label_error
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.io.rasters import image_size
from rsfoundation.prepare.check.items import Item, SplitData, read_splits

_NWPU_LINE = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*,\s*(\d+)")
_POSITIVE, _NEGATIVE, _LABELS = "positive image set", "negative image set", "ground truth"
_CONNECTIVITY = (4, 8)
_NO_OBJECTS = ("background", "unchanged")
_TILE_NAME = re.compile(r"(?P<name>.+)_(?P<x1>\d+)_(?P<y1>\d+)_(?P<x2>\d+)_(?P<y2>\d+)")


class _Shape(NamedTuple):
    """One object: its class number from 1 on, box ``x y w h``, area, and COCO segmentation."""

    category: int
    box: list[float]
    area: float
    segmentation: Any


class _Image(NamedTuple):
    """One image: its file below the data set's folder, its size, and its objects."""

    file: str
    width: int
    height: int
    shapes: list[_Shape]


@dataclass(frozen=True)
class InstanceFile:
    """A COCO json that was written.

    Attributes:
        path: The file.
        report: Images and objects written, and what was left out.
    """

    path: Path
    report: DatasetReport


def convert_instances(
    kind: str,
    root: Path,
    out: Path,
    *,
    split: str | None = None,
    tiles: Path | None = None,
    connectivity: int = 4,
    min_area: int = 1,
    on_error: Policy = "fail",
    workers: int = 2,
) -> InstanceFile:
    """Write the objects of a data set as one COCO json.

    ``whu`` reads ``<root>/<split>/image`` and ``label``: every connected component of the pixels that are not
    zero is one building, so buildings that share a side of a pixel are one object; those that touch at a
    corner alone are two (with ``connectivity=8`` one). ``nwpu`` reads ``ground truth/*.txt`` with the images
    of ``positive image set``, and those of ``negative image set`` as images without objects. These files
    hold boxes, not masks: each mask is its whole box. ``isaid`` reads ``<root>/<split>/images`` with
    ``Instance_masks`` (one number each object) and ``Semantic_masks`` (its class); with ``tiles``, the images
    are those that `rsf prepare isaid` wrote of them, and objects are cut at their borders. ``masks`` reads
    the label maps of any known layout: every connected component of a class is one object, except of
    classes called background or unchanged.

    Args:
        kind: One of :data:`KINDS`.
        root: Folder of the data set as distributed.
        out: The json file. ``file_name`` of images is relative to ``root``, for WHU to the split's ``image``,
            for iSAID to the split's ``images`` or to ``tiles``, for masks to the folder of the images.
        split: ``train``, ``val`` or ``test``; NWPU has none.
        tiles: Folder of iSAID's tiles of this split, such as ``data/isaid/img_dir/train``.
        connectivity: 4 or 8 neighbours of a pixel are connected.
        min_area: Components of fewer pixels are left out and counted.
        on_error: ``skip`` leaves out unreadable files and malformed lines, and counts them.
        workers: Threads.

    Raises:
        ConfigError: An option has a value that does not exist.
        DataError: Files are missing or, under ``fail``, broken.
    """
    check_choice("kind", kind, KINDS, "convert_instances")
    if connectivity not in _CONNECTIVITY:
        raise ConfigError(f"connectivity is {connectivity}", where="connectivity", fix="4 or 8")
    if tiles is not None and kind != "isaid":
        raise ConfigError(f"{kind} has no tiles", where="tiles", fix="leave it out")
    report = DatasetReport()
    if kind == "isaid":
        jobs, classes, convert = _isaid_jobs(Path(root), split, tiles)
        convert = partial(convert, min_area=min_area)
    else:
        jobs, classes, convert = KINDS[kind](Path(root), split)
    if kind in ("whu", "masks"):
        convert = partial(convert, connectivity=connectivity, min_area=min_area)
    made = run_jobs(partial(_one, convert), jobs, workers=workers, title="converting labels")
    for _, found in made:
        report.merge(found)
    report.enforce(on_error)
    images = [image for found, _ in made for image in found]
    report.images, report.objects = len(images), sum(len(image.shapes) for image in images)
    write_json(Path(out), _content(images, classes))
    return InstanceFile(Path(out), report)


def _one(
    convert: Callable[..., _Image | list[_Image]], job: tuple[Any, ...]
) -> tuple[list[_Image], DatasetReport]:
    report = DatasetReport()
    try:
        made = convert(*job, report)
        return made if isinstance(made, list) else [made], report
    except DataError as error:
        report.error("unreadable images and masks", error, str(job[0]))
        return [], report


def _content(images: Sequence[_Image], classes: Sequence[str]) -> dict[str, Any]:
    """Return COCO's content; ids start at 1: evaluation takes a match with annotation 0 for none."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        entries.append(dict(id=number, file_name=image.file, width=image.width, height=image.height))
        for shape in image.shapes:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=shape.category,
                    bbox=shape.box,
                    area=shape.area,
                    segmentation=shape.segmentation,
                    iscrowd=0,
                )
            )
    categories = [dict(id=number, name=name) for number, name in enumerate(classes, start=1)]
    return dict(images=entries, annotations=annotations, categories=categories)


def _whu_jobs(root: Path, split: str | None) -> Any:
    if split is None:
        raise ConfigError("WHU Building has splits", where="split", fix="train, val or test")
    images, labels = root / split / "image", root / split / "label"
    files = _image_files(images)
    missing = [file.name for file in files if not (labels / file.name).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} images have no mask, first: {missing[0]}",
            where=labels,
            fix="give the masks the names of the images",
        )
    return [(file, labels / file.name, root) for file in files], ("building",), _whu_image


def _whu_image(
    image: Path, label: Path, root: Path, report: DatasetReport, connectivity: int, min_area: int
) -> _Image:
    width, height = image_size(image)
    mask = read_label_image(label)
    values = mask.values.any(axis=2) if mask.coloured else mask.values
    if values.shape != (height, width):
        raise DataError(
            f"the mask is {values.shape[1]} x {values.shape[0]} px, the image {width} x {height}",
            where=label,
            fix="use the mask of this image",
        )
    shapes = _components(values != 0, 1, connectivity, min_area, label, report)
    return _Image(image.name, width, height, shapes)


def _components(
    inside: NDArray[np.bool_],
    category: int,
    connectivity: int,
    min_area: int,
    label: Path,
    report: DatasetReport,
) -> list[_Shape]:
    """Return the connected components of the pixels of a class."""
    height, width = inside.shape
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        inside.astype(np.uint8), connectivity=connectivity
    )
    shapes = []
    for number in range(1, count):
        left, top, w, h, area = (int(value) for value in stats[number])
        if area < min_area:
            report.note(f"components under {min_area} px", [label.name])
            continue
        runs = CroppedMask(left, top, numbers[top : top + h, left : left + w] == number).rle(height, width)
        shapes.append(_Shape(category, [left, top, w, h], area, runs))
    return shapes


def _masks_jobs(root: Path, split: str | None) -> Any:
    splits = {data.name: data for data in read_splits(root)}
    names = ", ".join(splits)
    if split is None and len(splits) == 1:
        split = names
    if split not in splits:
        raise ConfigError(f"split is {split!r}", where="split", fix=f"one of {names}")
    data = splits[split]
    data.report.enforce("fail")
    if data.reader is None:
        raise DataError(
            "the layout has no label maps", where=root, fix="see data/README.md for those that do"
        )
    classes = tuple(name for name in data.classes if name not in _NO_OBJECTS)
    return [(item, data, classes) for item in data.items], classes, _masks_image


def _masks_image(
    item: Item,
    data: SplitData,
    classes: tuple[str, ...],
    report: DatasetReport,
    connectivity: int,
    min_area: int,
) -> _Image:
    found = data.label_map(item)
    if found is None:
        raise DataError("the image has no label map", where=item.images[0], fix="add it")
    labels = found[0]
    shapes: list[_Shape] = []
    for category, name in enumerate(classes, start=1):
        inside = labels == data.classes.index(name)
        shapes += _components(inside, category, connectivity, min_area, Path(item.label), report)
    return _Image(Path(item.images[-1]).name, labels.shape[1], labels.shape[0], shapes)


def _isaid_jobs(root: Path, split: str | None, tiles: Path | None) -> Any:
    if split is None:
        raise ConfigError("iSAID has splits", where="split", fix="train or val")
    folder = root / split
    parts: dict[str, list[Path]] = {}
    for tile in [] if tiles is None else _image_files(Path(tiles)):
        found = _TILE_NAME.fullmatch(tile.stem)
        parts.setdefault(found["name"] if found else tile.stem, []).append(tile)
    jobs = []
    for image in _image_files(folder / "images"):
        masks = (
            folder / "Instance_masks" / f"{image.stem}_instance_id_RGB.png",
            folder / "Semantic_masks" / f"{image.stem}_instance_color_RGB.png",
        )
        if tiles is None or image.stem in parts:
            jobs.append((image, *masks, None if tiles is None else parts.pop(image.stem)))
    if parts:
        what = f"{len(parts)} images of the tiles are not in {folder / 'images'}, first: {next(iter(parts))}"
        raise DataError(what, where=tiles, fix="name the folder of this split's tiles")
    return jobs, ISAIDDataset.METAINFO["classes"][1:], _isaid_images


def _isaid_images(
    image: Path,
    instances: Path,
    semantic: Path,
    tiles: list[Path] | None,
    report: DatasetReport,
    min_area: int,
) -> list[_Image]:
    colours = read_label_image(instances).values
    if colours.ndim != 3:
        raise DataError(
            "the instance mask has no three bands", where=instances, fix="use *_instance_id_RGB.png"
        )
    numbers = colours.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    palette = as_palette(ISAIDDataset.METAINFO["palette"])
    mask = read_label_image(semantic)
    classes, bad = decode_mask(mask, palette)
    if bad.any():
        raise unknown_label_error(mask, bad, palette)
    if numbers.shape != classes.shape:
        raise DataError("the instance mask has another size than the semantic one", where=instances)
    names = [(image.name, Window(0, 0, numbers.shape[1], numbers.shape[0]))]
    if tiles is not None:
        names = [(tile.name, _tile_window(tile, numbers.shape)) for tile in tiles]
    return [
        _Image(name, w.width, w.height, _isaid_shapes(numbers, classes, w, min_area, instances, report))
        for name, w in names
    ]


def _tile_window(tile: Path, shape: tuple[int, ...]) -> Window:
    found = _TILE_NAME.fullmatch(tile.stem)
    if found is None:
        return Window(0, 0, shape[1], shape[0])
    x1, y1, x2, y2 = (int(found[key]) for key in ("x1", "y1", "x2", "y2"))
    return Window(x1, y1, x2 - x1, y2 - y1)


def _isaid_shapes(
    numbers: NDArray[np.int32],
    classes: NDArray[Any],
    window: Window,
    min_area: int,
    file: Path,
    report: DatasetReport,
) -> list[_Shape]:
    """Return the objects of a window: their pixels there, and the class that most of them have."""
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    part, kinds = np.ascontiguousarray(numbers[rows, columns]), classes[rows, columns]
    found, places = np.unique(part, return_inverse=True)
    order = places.reshape(part.shape) + 1
    shapes = []
    for number, box in zip(found.tolist(), find_objects(order), strict=True):
        if number == 0:
            continue
        inside = part[box] == number
        area = int(inside.sum())
        kind = int(np.bincount(kinds[box][inside]).argmax())
        if kind in (0, IGNORED):
            report.note("instances whose pixels have no class", [file.name])
        elif area < min_area:
            report.note(f"objects under {min_area} px", [file.name])
        else:
            top, left = box[0].start, box[1].start
            runs = CroppedMask(left, top, inside).rle(window.height, window.width)
            shapes.append(_Shape(kind, [left, top, inside.shape[1], inside.shape[0]], area, runs))
    return shapes


def _nwpu_jobs(root: Path, split: str | None) -> Any:
    if split is not None:
        raise ConfigError(f"NWPU VHR-10 has no split {split!r}", where="split", fix="leave it out")
    labels = {file.stem: file for file in (root / _LABELS).glob("*.txt")}
    jobs: list[tuple[Path, Path | None, Path]] = []
    for file in _image_files(root / _POSITIVE):
        if file.stem not in labels:
            raise DataError(
                f"{file.name} has no label file", where=root / _LABELS, fix="complete the download"
            )
        jobs.append((file, labels[file.stem], root))
    if (root / _NEGATIVE).is_dir():
        jobs += [(file, None, root) for file in _image_files(root / _NEGATIVE)]
    return jobs, NWPUInsSegDataset.METAINFO["classes"], _nwpu_image


def _nwpu_image(image: Path, label: Path | None, root: Path, report: DatasetReport) -> _Image:
    width, height = image_size(image)
    shapes = []
    for number, line in enumerate(read_lines(label) if label else [], start=1):
        if not line:
            continue
        try:
            shapes.append(_nwpu_shape(line, width, height))
        except ValueError as error:
            problem = DataError(
                f"malformed label line: {error} in {line[:80]!r}; expected '(x1,y1),(x2,y2),class'",
                where=f"{label}:{number}",
                fix=f"correct the line, or leave such lines out with {SKIPPING}",
            )
            report.error(MALFORMED_LINES, problem, str(label))
    return _Image(image.relative_to(root).as_posix(), width, height, shapes)


def _nwpu_shape(line: str, width: int, height: int) -> _Shape:
    found = _NWPU_LINE.fullmatch(line)
    if found is None:
        raise ValueError("no two corners and a class")
    x1, y1, x2, y2, category = (int(value) for value in found.groups())
    if not 1 <= category <= len(NWPUInsSegDataset.METAINFO["classes"]):
        raise ValueError(f"class {category} is not 1 to 10")
    right, bottom = min(x2, width), min(y2, height)
    if right <= x1 or bottom <= y1:
        raise ValueError(f"the box has no area in an image of {width} x {height} px")
    corners = [x1, y1, right, y1, right, bottom, x1, bottom]
    w, h = right - x1, bottom - y1
    return _Shape(category, [x1, y1, w, h], w * h, [corners])


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError("there is no such folder", where=folder, fix="name the folder of the data set")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError("the folder holds no image", where=folder, fix="complete the download")
    return files


KINDS: Mapping[str, Callable[[Path, str | None], Any]] = {
    "whu": _whu_jobs,
    "nwpu": _nwpu_jobs,
    "isaid": partial(_isaid_jobs, tiles=None),
    "masks": _masks_jobs,
}
