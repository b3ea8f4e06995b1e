"""The forms that labels are written in for other tools: DOTA text files and one COCO json.

A writer takes the images with their objects, the image files' names, the classes' names, and the folder to
write to.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rsfoundation.data.tiling import object_areas
from rsfoundation.detection.datasets.entries import Entries
from rsfoundation.detection.pixels import image_size
from rsfoundation.structures.boxes import quad_to_rbox
from rsfoundation.structures.dota_txt import DotaObject, write_dota_txt

Form = Literal["dota", "coco"]
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


WRITERS: Mapping[Form, Callable[[Entries, Sequence[str], Sequence[str], Path], None]] = {
    "dota": _write_dota,
    "coco": _write_coco,
}
