"""Labels of any oriented data set in a form that every tool reads; the forms: see :mod:`.label_forms`."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.core.choices import LabelFormat
from rsfoundation.core.errors import ConfigError, DataError, nearest
from rsfoundation.core.files import Manifest, locked, publish, refuse_foreign, refuse_own_sources, stage
from rsfoundation.core.reports import Policy
from rsfoundation.datasets.oriented.annotations import Entries
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DotaVersion
from rsfoundation.geometry.boxes import quad_to_rbox
from rsfoundation.geometry.windows import object_areas
from rsfoundation.io.dota import DotaObject, write_dota_txt
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import DATASETS

ANNOTATIONS = "annotations.json"


def _write_dota(entries: Entries, files: Sequence[str], names: Sequence[str], folder: Path) -> None:
    plain = ["_".join(name.split()) for name in names]
    (folder / "labelTxt").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in plain), encoding="utf-8")
    for row, name in enumerate(entries.names.tolist()):
        part = entries.objects_of(row)
        columns = (entries.quads[part], entries.labels[part], entries.difficulties[part])
        objects = [
            DotaObject(tuple(quad), plain[label], difficulty)
            for quad, label, difficulty in zip(*(column.tolist() for column in columns), strict=True)
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
        object_areas(quads).tolist(),
        quad_to_rbox(quads).tolist(),
        entries.labels[part].tolist(),
        entries.difficulties[part].tolist(),
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
            difficult=difficulty,
        )
        for number, (quad, bbox, area, rbox, label, difficulty) in enumerate(zip(*columns, strict=True))
    ]


WRITERS: Mapping[LabelFormat, Callable[[Entries, Sequence[str], Sequence[str], Path], None]] = {
    "dota": _write_dota,
    "coco": _write_coco,
}


MAKER = "rsfoundation prepare labels"
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
        difficult: Those of them with a difficulty above 0.
    """

    out: Path
    images: int
    objects: int
    difficult: int


def convert_labels(
    kind: str,
    root: Path,
    out: Path,
    *,
    splits: Sequence[str],
    form: LabelFormat,
    version: DotaVersion | None = None,
    classes: Path | None = None,
    on_error: Policy = "fail",
) -> LabelReport:
    """Write the labels of some splits, and links to their images; the folder appears when it is complete.

    ``dota`` writes ``labelTxt/<image>.txt`` and ``classes.txt``; blanks in class names become ``_``. ``coco``
    writes ``annotations.json``, whose objects hold the upright ``bbox``, the four corners as ``segmentation``
    and, beyond the format, ``rbox`` (centre, width, height in pixels, angle in radians, le90) and
    ``difficult`` (the difficulty as labelled). Images are linked, or copied where links are not possible.

    Args:
        kind: One of :data:`KINDS`.
        root: Folder of the data set as distributed.
        out: Folder to make.
        splits: Splits, read as one.
        form: Which of the two.
        version: Of DOTA: its classes, and the label folder that names it; 1.0 when not given.
        classes: File with other classes than the data set's; looked for below ``root`` first.
        on_error: What a broken image or label does. Whatever the policy, boxes without area and those beyond
            their image are left out, and corners in crossed order put in order; the log counts them.

    Raises:
        ConfigError: Another kind, or a version of one that has none.
        DataError: The source or the class list is missing or broken, images are windows of larger ones, or
            ``out`` holds the source or something else, or cannot be written.
    """
    out = Path(out)
    data = _read(kind, root, splits, version, classes, on_error)
    entries: Any = data.data_list
    if entries.windows[:, 2].any():
        raise DataError(
            "the images are windows of larger ones",
            where=root,
            fix="cut them to files: `rsf prepare` without --virtual",
        )
    refuse_own_sources(out, map(Path, entries.paths.tolist()))
    names = tuple(data.metainfo["classes"])
    counts = dict(
        images=len(entries),
        objects=len(entries.labels),
        difficult=int((entries.difficulties > 0).sum()),
    )
    parameters = dict(kind=kind, splits=list(splits), form=form, classes=list(names), on_error=on_error)
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        with stage(out) as staging:
            files = _link_images(entries, staging / "images")
            WRITERS[form](entries, files, names, staging)
            publish(staging, out, Manifest(MAKER, parameters, counts))
    return LabelReport(out, **counts)


def _read(
    kind: str,
    root: Path,
    splits: Sequence[str],
    version: DotaVersion | None,
    classes: Path | None,
    on_error: Policy,
) -> OrientedDataset:
    if kind not in KINDS:
        hint = nearest(kind, KINDS)
        raise ConfigError(
            f"no data set is called {kind!r}{f'; {hint}' if hint else ''}",
            where="kind",
            fix=f"one of {', '.join(KINDS)}",
        )
    if version is not None and kind != "dota":
        raise ConfigError(f"there are no versions of {kind}", where="version", fix="leave it out")
    options: dict[str, Any] = {"version": version} if version is not None else {}
    options |= {"metainfo": {"classes": str(classes)}} if classes is not None else {}
    kinds = dict(type=f"rsfoundation.{KINDS[kind]}", data_root=str(root), split=list(splits))
    return DATASETS.build({**kinds, "min_side": 0.0, "on_error": on_error, **options})


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
