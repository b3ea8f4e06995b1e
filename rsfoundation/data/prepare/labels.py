"""Labels of any oriented data set in a form that every tool reads: DOTA text files or one COCO json."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsfoundation.data.store import locked, publish, refuse_foreign, stage
from rsfoundation.detection.datasets.base import OrientedDataset
from rsfoundation.detection.datasets.entries import Entries
from rsfoundation.detection.pixels import image_size
from rsfoundation.errors import ConfigError, DataError, nearest
from rsfoundation.registry import DATASETS
from rsfoundation.structures.boxes import quad_to_rbox
from rsfoundation.structures.dota_txt import DotaObject, Policy, write_dota_txt
from rsfoundation.structures.manifest import Manifest

MAKER = "rsfoundation prepare labels"
ANNOTATIONS = "annotations.json"
Form = Literal["dota", "coco"]
KINDS: Mapping[str, str] = {
    "dota": "DOTADataset",
    "dior": "DIORDataset",
    "fair1m": "FAIR1MDataset",
    "hrsc": "HRSCDataset",
    "ssdd": "SSDDDataset",
    "hrsid": "HRSIDDataset",
}


@dataclass(frozen=True)
class LabelReport:
    """What was written.

    Attributes:
        out: Folder with ``images/`` and the labels.
        images: Images.
        objects: Their objects.
        difficult: Those of them marked as difficult.
    """

    out: Path
    images: int
    objects: int
    difficult: int


def convert_labels(
    kind: str, root: Path, out: Path, *, splits: Sequence[str], form: Form, on_error: Policy = "fail"
) -> LabelReport:
    """Write the labels of some splits, and links to their images; the folder appears when it is complete.

    ``dota`` writes ``labelTxt/<image>.txt`` and ``classes.txt``; blanks in class names become ``_``. ``coco``
    writes ``annotations.json``, whose objects hold the upright ``bbox``, the four corners as ``segmentation``
    and, beyond the format, ``rbox`` (centre, width, height in pixels, angle in radians, le90) and
    ``difficult``. Images are linked, or copied where links are not possible.

    Args:
        kind: One of :data:`KINDS`.
        root: Folder of the data set as distributed.
        out: Folder to make.
        splits: Splits, read as one.
        form: Which of the two.
        on_error: What a broken image or label does. Whatever the policy, boxes without area and those beyond
            their image are left out, and corners in crossed order put in order; the log counts them.

    Raises:
        ConfigError: Another kind.
        DataError: The source is missing or broken, its images are windows of larger ones, or ``out`` holds
            something else.
    """
    out = Path(out)
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise ConfigError(
            f"no data set is called {kind!r}{f'; {hint}' if hint else ''}",
            where="kind",
            cure=f"one of {', '.join(KINDS)}",
        )
    data: OrientedDataset = DATASETS.build(
        dict(
            type=f"rsfoundation.{KINDS[kind]}",
            data_root=str(root),
            split=list(splits),
            min_side=0.0,
            ignore_difficulty=1,
            on_error=on_error,
        )
    )
    entries: Any = data.data_list
    if entries.windows[:, 2].any():
        raise DataError(
            "the images are windows of larger ones",
            where=root,
            cure="cut them to files: `rsf prepare` without --virtual",
        )
    names = tuple(data.metainfo["classes"])
    write: Mapping[Form, Callable[..., None]] = {"dota": _write_dota, "coco": _write_coco}
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        staging = stage(out)
        files = _link_images(entries, staging / "images")
        write[form](entries, files, names, staging)
        counts = dict(
            images=len(entries),
            objects=len(entries.labels),
            difficult=int(entries.ignored.sum()),
        )
        parameters = dict(kind=kind, splits=list(splits), form=form, on_error=on_error)
        publish(staging, out, Manifest(MAKER, parameters, counts))
    return LabelReport(out, **counts)


def _link_images(entries: Entries, folder: Path) -> list[str]:
    """Return what the images are called in the folder: as results call them, with their own suffix."""
    folder.mkdir()
    files = []
    for name, path in zip(entries.names.tolist(), entries.paths.tolist(), strict=True):
        image = Path(path).resolve()
        files.append(f"{name}{image.suffix}")
        try:
            (folder / files[-1]).symlink_to(image)
        except OSError:  # a file system, or a user of Windows, without links
            shutil.copy2(image, folder / files[-1])
    return files


def _write_dota(entries: Entries, files: Sequence[str], names: Sequence[str], folder: Path) -> None:
    plain = ["_".join(name.split()) for name in names]
    (folder / "labelTxt").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in plain), encoding="utf-8")
    for row, name in enumerate(entries.names.tolist()):
        part = entries.objects_of(row)
        columns = entries.quads[part].tolist(), entries.labels[part].tolist(), entries.ignored[part].tolist()
        objects = [
            DotaObject(tuple(quad), plain[label], difficult)
            for quad, label, difficult in zip(*columns, strict=True)
        ]
        write_dota_txt(folder / "labelTxt" / f"{name}.txt", objects)


def _write_coco(entries: Entries, files: Sequence[str], names: Sequence[str], folder: Path) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row, (file, path) in enumerate(zip(files, entries.paths.tolist(), strict=True)):
        width, height = entries.sizes[row].tolist()
        if width < 0:
            width, height = image_size(Path(path))
        images.append(dict(id=row + 1, file_name=file, width=width, height=height))
        annotations += _annotations(entries, row, first=len(annotations) + 1)
    categories = [dict(id=number, name=name) for number, name in enumerate(names, start=1)]
    record = dict(images=images, annotations=annotations, categories=categories)
    (folder / ANNOTATIONS).write_text(json.dumps(record), encoding="utf-8")


def _annotations(entries: Entries, row: int, first: int) -> list[dict[str, Any]]:
    part = entries.objects_of(row)
    quads = entries.quads[part]
    corners = quads.reshape(-1, 4, 2)
    lows = corners.min(axis=1)
    upright = np.concatenate([lows, corners.max(axis=1) - lows], axis=1)
    columns = (
        quads.tolist(),
        upright.tolist(),
        _areas(corners).tolist(),
        quad_to_rbox(quads).tolist(),
        entries.labels[part].tolist(),
        entries.ignored[part].tolist(),
    )
    return [
        dict(
            id=first + number,
            image_id=row + 1,
            category_id=label + 1,
            bbox=bbox,
            segmentation=[quad],
            area=area,
            iscrowd=0,
            rbox=rbox,
            difficult=difficult,
        )
        for number, (quad, bbox, area, rbox, label, difficult) in enumerate(zip(*columns, strict=True))
    ]


def _areas(corners: np.ndarray) -> np.ndarray:
    """Return the areas of polygons ``(M, 4, 2)`` by the shoelace formula."""
    x, y = corners[..., 0], corners[..., 1]
    return np.abs((x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(axis=1)) / 2
