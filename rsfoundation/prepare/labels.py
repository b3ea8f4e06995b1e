"""Labels of any oriented data set in the formats of other tools: DOTA, COCO, YOLO-OBB, FAIR1M, roLabelImg,
Label Studio, CVAT, GeoPackage, GeoJSON.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import shapely
from mmengine.logging import MMLogger

from rsfoundation.core.choices import LabelFormat
from rsfoundation.core.errors import ConfigError, DataError, nearest
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    refuse_foreign,
    refuse_own_sources,
    staging_folder,
)
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.datasets.oriented.annotations import AnnotationTable
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DotaVersion
from rsfoundation.datasets.oriented.label_tools import ToolForm
from rsfoundation.geometry.boxes import quad_to_rbox
from rsfoundation.geometry.windows import object_areas
from rsfoundation.io.dota import write_dota_txt
from rsfoundation.io.label_tools import ToolImage, write_cvat, write_label_studio
from rsfoundation.io.rasters import RasterReader, image_size
from rsfoundation.io.vectors import Features, class_columns, write_vectors
from rsfoundation.io.xml_labels import write_voc_xml
from rsfoundation.io.yolo import write_yolo_classes, write_yolo_txt
from rsfoundation.registry import DATASETS

ANNOTATIONS = "annotations.json"
_DIGITS = 11  # of degrees in GeoJSON: micrometres; the usual 7 are 1 cm, a part of a pixel


def _write_dota(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    plain = tuple("_".join(name.split()) for name in table.class_names)
    table = replace(table, class_names=plain)
    (folder / "labelTxt").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in plain), encoding="utf-8")
    for row, name in enumerate(table.names.tolist()):
        write_dota_txt(folder / "labelTxt" / f"{name}.txt", table.boxes_of(row))


def _write_coco(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for row, (file, path) in enumerate(zip(files, table.paths.tolist(), strict=True)):
        width, height = _size(table, row, path)
        images.append(dict(id=row + 1, file_name=file, width=width, height=height))
        annotations += _annotations(table, row, first=len(annotations) + 1)
    categories = [dict(id=number, name=name) for number, name in enumerate(table.class_names, start=1)]
    record = dict(images=images, annotations=annotations, categories=categories)
    (folder / ANNOTATIONS).write_text(json.dumps(record), encoding="utf-8")


def _write_yolo(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    """Write ``labels/<image>.txt`` with fractions of width and height, and ``data.yaml`` with the classes."""
    (folder / "labels").mkdir()
    for row, (name, path) in enumerate(zip(table.names.tolist(), table.paths.tolist(), strict=True)):
        part = table.objects_of(row)
        file = folder / "labels" / f"{name}.txt"
        write_yolo_txt(file, table.labels[part], table.quads[part], _size(table, row, path))
    write_yolo_classes(folder / "data.yaml", table.class_names)


def _write_fair1m(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    """Write ``labelXml/<image>.xml``: five points an object; ``_`` in names becomes a blank."""
    (folder / "labelXml").mkdir()
    for row, (name, path) in enumerate(zip(table.names.tolist(), table.paths.tolist(), strict=True)):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(ElementTree.SubElement(root, "source"), "filename").text = files[row]
        size = ElementTree.SubElement(root, "size")
        for tag, value in zip(("width", "height"), _size(table, row, path), strict=True):
            ElementTree.SubElement(size, tag).text = str(value)
        objects = ElementTree.SubElement(root, "objects")
        for item in table.boxes_of(row):
            node = ElementTree.SubElement(objects, "object")
            ElementTree.SubElement(node, "coordinate").text = "pixel"
            ElementTree.SubElement(node, "type").text = "rectangle"
            result = ElementTree.SubElement(node, "possibleresult")
            ElementTree.SubElement(result, "name").text = item.name.replace("_", " ")
            points = ElementTree.SubElement(node, "points")
            for x, y in np.reshape((*item.quad, *item.quad[:2]), (5, 2)).tolist():
                ElementTree.SubElement(points, "point").text = f"{x:.6f},{y:.6f}"
        ElementTree.indent(root)
        ElementTree.ElementTree(root).write(
            folder / "labelXml" / f"{name}.xml", "utf-8", xml_declaration=True
        )


def _write_voc(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    """Write ``Annotations/<image>.xml`` as roLabelImg does; boxes that are no rectangles are counted."""
    (folder / "Annotations").mkdir()
    bent = 0
    for row, (name, path) in enumerate(zip(table.names.tolist(), table.paths.tolist(), strict=True)):
        file = folder / "Annotations" / f"{name}.xml"
        bent += write_voc_xml(file, files[row], _size(table, row, path), table.boxes_of(row))
    if bent:
        MMLogger.get_current_instance().warning(
            f"{bent} of {len(table.quads)} boxes are no rectangles: the files have the smallest around them"
        )


def _tool_images(table: AnnotationTable, files: Sequence[str]) -> list[ToolImage]:
    paths = enumerate(zip(files, table.paths.tolist(), strict=True))
    return [
        ToolImage(file, _size(table, row, path), tuple(table.boxes_of(row))) for row, (file, path) in paths
    ]


def _write_label_studio(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    write_label_studio(folder / "label_studio.json", _tool_images(table, files))


def _write_cvat(table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    write_cvat(folder / "annotations.xml", _tool_images(table, files))


def _write_vectors(form: str, table: AnnotationTable, files: Sequence[str], folder: Path) -> None:
    """Write ``labels/<image>.<form>`` in the CRS of each image; in pixels where it has none."""
    for row, (name, path) in enumerate(zip(table.names.tolist(), table.paths.tolist(), strict=True)):
        part = table.objects_of(row)
        columns = class_columns(table.class_names, table.labels[part])
        columns["difficult"] = table.difficulties[part].astype(np.int64)
        shapes = shapely.polygons(table.quads[part].reshape(-1, 4, 2) + 0.5)
        with RasterReader(path) as raster:
            reference = raster.georeference
        file = folder / "labels" / f"{name}.{form}"
        write_vectors(
            Features(shapes, columns), reference, file, format_=form, layer="labels", digits=_DIGITS
        )


def _size(table: AnnotationTable, row: int, path: str) -> tuple[int, int]:
    width, height = table.sizes[row].tolist()
    return (width, height) if width >= 0 else image_size(Path(path))


def _annotations(table: AnnotationTable, row: int, first: int) -> list[dict[str, Any]]:
    part = table.objects_of(row)
    quads = table.quads[part]
    corners = quads.reshape(-1, 4, 2)
    lows = corners.min(axis=1)
    upright = np.concatenate([lows, corners.max(axis=1) - lows], axis=1)
    columns = (
        quads.tolist(),
        upright.tolist(),
        object_areas(quads).tolist(),
        quad_to_rbox(quads).tolist(),
        table.labels[part].tolist(),
        table.difficulties[part].tolist(),
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


WRITERS: Mapping[LabelFormat, Callable[[AnnotationTable, Sequence[str], Path], None]] = {
    "dota": _write_dota,
    "coco": _write_coco,
    "yolo": _write_yolo,
    "fair1m": _write_fair1m,
    "voc": _write_voc,
    "label-studio": _write_label_studio,
    "cvat": _write_cvat,
    "gpkg": partial(_write_vectors, "gpkg"),
    "geojson": partial(_write_vectors, "geojson"),
}


MAKER = "rsfoundation prepare labels"
KINDS: Mapping[str, str] = {
    "dota": "DOTADataset",
    "dior": "DIORDataset",
    "fair1m": "FAIR1MDataset",
    "hrsc": "HRSCDataset",
    "ssdd": "SSDDDataset",
    "hrsid": "HRSIDDataset",
    "yolo": "YOLOOBBDataset",
    **dict.fromkeys(get_args(ToolForm), "LabelToolDataset"),
}


@dataclass(frozen=True)
class ConversionResult:
    """The folder that was made.

    Attributes:
        out: Folder with ``images/`` and the labels.
        report: Images and objects written, and everything that was left out or repaired.
        difficult: Objects with a difficulty above 0.
    """

    out: Path
    report: DatasetReport
    difficult: int

    def counts(self) -> dict[str, int]:
        """Return every count for a table."""
        totals = {"images": self.report.images, "objects": self.report.objects or 0}
        return {**totals, "difficult": self.difficult, **self.report.counts}


def convert_labels(
    kind: str,
    root: Path,
    out: Path,
    *,
    splits: Sequence[str],
    form: LabelFormat,
    version: DotaVersion | None = None,
    classes: Path | None = None,
    class_column: str | None = None,
    on_error: Policy = "fail",
) -> ConversionResult:
    """Write the labels of some splits, and links to their images, to a folder that appears when complete.

    ``dota`` writes ``labelTxt/<image>.txt`` and ``classes.txt``; blanks in class names become ``_``. ``coco``
    writes ``annotations.json``, whose objects hold the upright ``bbox``, the four corners as ``segmentation``
    and, beyond the format, ``rbox`` (centre, width, height in pixels, angle in radians, le90) and
    ``difficult`` (the difficulty). ``yolo`` writes ``labels/<image>.txt`` and ``data.yaml``, ``fair1m``
    ``labelXml/<image>.xml``; neither holds difficulties. ``voc`` writes roLabelImg's
    ``Annotations/<image>.xml``, ``label-studio`` ``label_studio.json``, ``cvat`` ``annotations.xml``,
    ``gpkg`` and ``geojson`` ``labels/<image>.<format>`` in the CRS of the image. What a format cannot hold is
    lost: roLabelImg's shapes other than rectangles, and the order of corners in vector files.
    Images are linked, or copied where links are not possible.

    Args:
        kind: One of :data:`KINDS`.
        root: Folder of the data set as distributed.
        out: Folder to make.
        splits: Splits, read as one.
        form: Format of the labels.
        version: Of DOTA: its classes, and the label folder that names it; 1.0 when not given.
        classes: File with other classes than the data set's; looked for below ``root`` first.
        class_column: Column of vector files with the class names; ``class`` when not given.
        on_error: ``fail`` stops at broken images and labels; ``skip`` leaves them out. Whatever the policy,
            boxes without area and those beyond their image are left out, and corners in crossed order are
            put in order; the report counts them.

    Raises:
        ConfigError: Another kind, or a version of one that has none.
        DataError: The source or the class list is missing or broken, images are windows of larger ones, or
            ``out`` holds the source or something else, or cannot be written.
    """
    out = Path(out)
    data = _read(kind, root, splits, version, classes, class_column, on_error)
    table: AnnotationTable = data.data_list
    if table.windows[:, 2].any():
        raise DataError(
            "the images are windows of larger ones",
            where=root,
            fix="write them to files: `rsf prepare` without --virtual",
        )
    refuse_own_sources(out, map(Path, table.paths.tolist()))
    result = ConversionResult(out, data.report, int((table.difficulties > 0).sum()))
    parameters = dict(
        kind=kind, splits=list(splits), form=form, classes=list(table.class_names), on_error=on_error
    )
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        with staging_folder(out) as staging:
            files = _link_images(table, staging / "images")
            WRITERS[form](table, files, staging)
            content = {"difficult": result.difficult, "report": result.report.to_json()}
            publish(staging, out, Manifest(MAKER, parameters, content))
    return result


def _read(
    kind: str,
    root: Path,
    splits: Sequence[str],
    version: DotaVersion | None,
    classes: Path | None,
    class_column: str | None,
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
    if kind in get_args(ToolForm):
        options |= {"form": kind} | ({"class_column": class_column} if class_column else {})
    elif class_column:
        raise ConfigError(f"{kind} has no columns", where="class_column", fix="leave it out")
    kinds = dict(type=f"rsfoundation.{KINDS[kind]}", data_root=str(root), split=list(splits))
    return DATASETS.build({**kinds, "min_side": 0.0, "on_error": on_error, **options})


def _link_images(table: AnnotationTable, folder: Path) -> list[str]:
    """Link the images and return their file names there: the names of the table with their own suffix."""
    folder.mkdir()
    files = []
    for name, path in zip(table.names.tolist(), table.paths.tolist(), strict=True):
        image = Path(path).resolve()
        files.append(f"{name}{image.suffix}")
        try:
            (folder / files[-1]).symlink_to(image)
        except OSError:  # a file system, or a user of Windows, without links
            shutil.copy2(image, folder / files[-1])
    return files
