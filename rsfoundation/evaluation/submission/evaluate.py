"""Evaluating result files, of any program, against labels: DOTA Task1 and Task2, FAIR1M, and COCO results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from zipfile import ZipFile

import numpy as np
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.core.files import plain_value
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, FAIR1M_CLASSES
from rsfoundation.evaluation.average_precision import ApRule
from rsfoundation.evaluation.coco import AREAS, CocoDetections, CocoScores, IouType, evaluate_coco
from rsfoundation.evaluation.oriented.evaluate import Evaluation, evaluate
from rsfoundation.evaluation.oriented.image_results import (
    DetectionTable,
    LabelFolder,
    devkit_ignored_difficulty,
)
from rsfoundation.evaluation.oriented.matching import Matching
from rsfoundation.evaluation.submission.archive import base_name, file_names, open_zip
from rsfoundation.evaluation.submission.check import is_fair1m
from rsfoundation.evaluation.submission.dota_results import ResultRow, Task, is_of_task, read_dota, task_of
from rsfoundation.evaluation.submission.fair1m_results import read_fair1m
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.io.coco import Content, read_coco, run_lengths

_NAMED = 3  # images that an error names


class ClassRow(NamedTuple):
    """One class of an evaluation: numbers of objects that count and of detections, and average precisions."""

    name: str
    objects: int
    detections: int
    ap50: float
    ap75: float
    ap: float


@dataclass(frozen=True)
class ResultScores:
    """Scores of a result file.

    Attributes:
        path: The file.
        kind: ``DOTA Task1``, ``DOTA Task2``, ``FAIR1M``, ``COCO bbox`` or ``COCO segm``.
        protocol: The rules that the numbers follow.
        metrics: Name -> value, fractions in 0..1.
        classes: One row for each class.
        notes: What was left out, and what is missing.
        evaluation: Curves and confusion of oriented boxes; ``None`` under COCO's rules.
    """

    path: Path
    kind: str
    protocol: str
    metrics: Mapping[str, float]
    classes: tuple[ClassRow, ...]
    notes: tuple[str, ...] = ()
    evaluation: Evaluation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all but the curves as plain values; numbers that do not exist are ``None``."""
        content = {
            "path": str(self.path),
            "kind": self.kind,
            "protocol": self.protocol,
            "metrics": dict(self.metrics),
            "classes": [row._asdict() for row in self.classes],
            "notes": list(self.notes),
        }
        plain: dict[str, Any] = plain_value(content)
        return plain


def score_boxes(
    path: Path,
    kind: str,
    table: DetectionTable,
    classes: tuple[str, ...],
    ap_rule: ApRule,
    matching: Matching,
    notes: Sequence[str],
) -> ResultScores:
    """Evaluate oriented boxes.

    Args:
        path: The file of results.
        kind: Its kind, for messages.
        table: Detections and ground truth.
        classes: Names, in label order.
        ap_rule: ``voc07`` or ``voc12``.
        matching: ``devkit`` or ``mmrotate``.
        notes: What was left out, and what is missing.
    """
    evaluation = evaluate(table, classes, ap_rule, matching)
    aps = evaluation.aps()
    rows = tuple(
        ClassRow(
            name, curves[0].objects, curves[0].detections, float(row[0]), float(row[5]), float(row.mean())
        )
        for name, curves, row in zip(classes, evaluation.curves, aps, strict=True)
    )
    protocol = f"{ap_rule}, {matching} rules, {evaluation.images} images"
    return ResultScores(path, kind, protocol, evaluation.metrics(), rows, tuple(notes), evaluation)


def unlabelled_images(unknown: Mapping[Any, int], labelled: int, path: Path, labels: Path) -> DataError:
    """Return the error for detections of images that have no labels.

    Args:
        unknown: Name of each such image -> number of its detections.
        labelled: Number of images with labels.
        path: The file of results.
        labels: File or folder of the labels.
    """
    named = ", ".join(str(name) for name in list(unknown)[:_NAMED])
    return DataError(
        f"{sum(unknown.values())} detections in {len(unknown)} images that have no label, first: {named}; "
        f"{labelled} images have labels",
        where=f"{path}; {labels}",
        fix="name the labels of the images that the results are of; names are those of full images, without "
        "suffix, and results on patches are merged first",
    )


Rules = Literal["devkit", "mmrotate", "coco"]
Difficult = Literal["count", "ignore"]


def evaluate_results(
    path: Path,
    labels: Path,
    rules: Rules | None = None,
    ap_rule: ApRule = "voc07",
    classes: Sequence[str] | None = None,
    difficult: Difficult | None = None,
) -> tuple[ResultScores, ...]:
    """Evaluate a result file.

    Args:
        path: ``Task1.zip``, ``Task2.zip``, FAIR1M's ``test.zip``, or a json file of COCO results.
        labels: Folder of the full images' label files: DOTA's ``*.txt`` or FAIR1M's ``*.xml``. For COCO
            results the annotation file, or a folder with one.
        rules: ``devkit``, of DOTA's server, the default for archives: IoU above the threshold, corners as
            written, for Task2 of boxes in whole pixels that include their last row and column, and the mean
            over all classes. ``mmrotate``: IoU reaches the threshold, rectangles around the corners, and the
            mean over classes with objects. ``coco``, the default for COCO results and only for them.
        ap_rule: ``voc07`` or ``voc12``; COCO's rules have one of their own.
        classes: Names in label order. Not given: those of the DOTA version that the files are of, FAIR1M's,
            or the categories of the annotations.
        difficult: Whether objects of difficulty 1 or more count. Not given: as the devkit of the version
            does, which ignores them in DOTA 1.0 and counts them in 1.5 and 2.0; ``mmrotate`` counts them.

    Returns:
        The scores; of boxes and of masks where COCO results have both.

    Raises:
        DataError: The file or a label cannot be read; or there are detections of images without labels.
        ConfigError: The rules do not apply to the file.
    """
    if rules is not None:
        check_choice("rules", rules, get_args(Rules), "rsf submission evaluate")
    if path.suffix.lower() == ".json":
        return evaluate_coco_results(path, labels, None if rules == "coco" else rules, ap_rule, classes)
    if rules == "coco":
        raise ConfigError(
            "COCO's rules apply to COCO results, not to archives",
            where="--rules coco",
            fix="choose --rules devkit or mmrotate",
        )
    matching: Matching = rules or "devkit"
    notes: list[str] = []
    with open_zip(path) as archive:
        names = file_names(archive)
        if is_fair1m(names):
            known = tuple(classes or FAIR1M_CLASSES)
            rows, kind = read_fair1m(archive, known), "FAIR1M"
            table, label_notes = _join(rows, _label_folder(labels, known, None), path)
        else:
            task = task_of(names)
            known, notes = _dota_classes(archive, names, task, classes)
            files = {f"{task}_{name}.txt": label for label, name in enumerate(known)}
            ignored = _ignored_difficulty(difficult, matching, known)
            rows, kind = read_dota(archive, files, task), f"DOTA {task}"
            table, label_notes = _join(rows, _label_folder(labels, known, ignored), path)
            if task == "Task2":
                table = _upright(table, matching)
            notes.append(f"objects of difficulty 1 or more {'count' if ignored is None else 'do not count'}")
    return (score_boxes(path, kind, table, known, ap_rule, matching, [*notes, *label_notes]),)


def _dota_classes(
    archive: ZipFile, names: Sequence[str], task: Task, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes of an archive, and a note on those that have no file.

    Raises:
        DataError: There is no class file.
    """
    suffix = ".txt"
    present = [base_name(name) for name in names if is_of_task(task, name) and name.lower().endswith(suffix)]
    found = {name[len(task) + 1 : -len(suffix)] for name in present}
    if not found:
        raise DataError(
            f"the archive has no file {task}_<class>.txt, and no xml file",
            where=str(archive.filename),
            fix="zip the result files, or name a .json file for COCO results",
        )
    fitting = [names for names in DOTA_CLASSES.values() if found <= set(names)]
    known = tuple(classes) if classes else fitting[0] if fitting else tuple(sorted(found))
    absent, other = [name for name in known if name not in found], sorted(found - set(known))
    notes = []
    if absent:
        notes.append(f"no file of {len(absent)} classes, of which nothing was found: {', '.join(absent)}")
    if other:
        notes.append(f"files of {len(other)} classes that were not asked for: {', '.join(other)}")
    return known, notes


def _ignored_difficulty(
    difficult: Difficult | None, matching: Matching, classes: tuple[str, ...]
) -> int | None:
    if difficult is not None:
        check_choice("difficult", difficult, get_args(Difficult), "rsf submission evaluate")
        return 1 if difficult == "ignore" else None
    return devkit_ignored_difficulty(classes) if matching == "devkit" else None


def _label_folder(labels: Path, classes: tuple[str, ...], ignored: int | None) -> LabelFolder:
    """Return the labels of a folder: xml files where there are more of them than text files.

    Raises:
        DataError: There is no such folder.
    """
    if not labels.is_dir():
        raise DataError(
            "the folder of labels does not exist",
            where=labels,
            fix="name the folder of the full images' own labels, such as data/DOTA/val/labelTxt",
        )
    xml, text = (len(list(labels.glob(f"*{suffix}"))) for suffix in (".xml", ".txt"))
    return LabelFolder(labels, classes, ignored, ".xml" if xml > text else ".txt")


def _join(rows: Iterable[ResultRow], labels: LabelFolder, path: Path) -> tuple[DetectionTable, list[str]]:
    """Join detections with the labels of all images, in the order of the images' names.

    Raises:
        DataError: There are detections of images without labels.
    """
    names = labels.names()
    places = {name: place for place, name in enumerate(names)}
    unknown: dict[str, int] = {}
    images, kinds, scores, corners = [], [], [], []
    for row in rows:
        place = places.get(row.image)
        if place is None:
            unknown[row.image] = unknown.get(row.image, 0) + 1
            continue
        images.append(place)
        kinds.append(row.label)
        scores.append(row.score)
        corners.append(row.corners)
    if unknown:
        raise unlabelled_images(unknown, len(names), path, labels.folder)
    order = np.argsort(np.array(images, dtype=np.int64), kind="stable")
    truths = [labels.read(name) for name in names]
    table = DetectionTable(
        names=tuple(names),
        image=np.array(images, dtype=np.int64)[order],
        boxes=np.array(corners, dtype=np.float64).reshape(len(corners), len(corners[0]) if corners else 8)[
            order
        ],
        scores=np.array(scores, dtype=np.float64)[order],
        labels=np.array(kinds, dtype=np.int64)[order],
        truth_image=np.repeat(np.arange(len(names)), [len(quads) for quads, _, _ in truths]),
        truth=np.concatenate([quads for quads, _, _ in truths]),
        truth_labels=np.concatenate([kinds for _, kinds, _ in truths]).astype(np.int64),
        ignored=np.concatenate([flags for _, _, flags in truths]),
    )
    dropped = labels.dropped
    notes = [f"left out labels of other classes: {count} {name}" for name, count in sorted(dropped.items())]
    return table, notes


def _upright(table: DetectionTable, matching: Matching) -> DetectionTable:
    """Return the table of Task2 as rectangles ``(n, 8)`` for ``devkit``, ``(n, 5)`` for ``mmrotate``.

    The devkit compares labels in whole pixels, cut off, and takes the last row and column of a box as part of
    it: as rectangles that reach one pixel further.
    """
    found = table.boxes if table.boxes.shape[1] == 4 else np.zeros((0, 4))
    quads = table.truth.reshape(-1, 4, 2)
    truth = np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)
    if matching == "mmrotate":
        sides = [_sides(found, 0.0), _sides(truth, 0.0)]
        boxes = [np.column_stack([(a + b) / 2, b - a, np.zeros(len(a))]) for a, b in sides]
    else:
        sides = [_sides(found, 1.0), _sides(np.trunc(truth), 1.0)]
        boxes = [np.column_stack([a, b[:, 0], a[:, 1], b, a[:, 0], b[:, 1]]) for a, b in sides]
    return DetectionTable(**{**vars(table), "boxes": boxes[0], "truth": boxes[1]})


def _sides(bounds: np.ndarray, more: float) -> tuple[np.ndarray, np.ndarray]:
    return bounds[:, :2], bounds[:, 2:] + more


def evaluate_coco_results(
    path: Path, labels: Path, matching: Matching | None, ap_rule: ApRule, classes: Sequence[str] | None
) -> tuple[ResultScores, ...]:
    """Evaluate boxes and masks by COCO's rules, or oriented boxes by others.

    Args:
        path: The json file of results.
        labels: The annotation file, or a folder with no other json file.
        matching: ``devkit`` or ``mmrotate`` for oriented boxes; ``None`` for COCO's rules.
        ap_rule: Of oriented boxes.
        classes: Names of the categories that count; all when not given.

    Raises:
        DataError: A file cannot be read; or there are detections of images without annotations.
        ConfigError: A class is no category; or COCO's rules do not apply to the results.
    """
    results, file = _read_results(path), _annotation_file(labels)
    report = DatasetReport()
    truth = read_coco(file, report, need_masks=False)
    notes = [f"annotations left out: {report.describe()}"] if report else []
    ids = {str(category["name"]): category["id"] for category in truth["categories"]}
    known = tuple(classes or ids)
    absent = [name for name in known if name not in ids]
    if absent:
        raise ConfigError(
            f"classes that are no categories of the annotations: {', '.join(absent)}",
            where=f"--class; {file}",
            fix=f"choose among {', '.join(ids)}",
        )
    listed = {image["id"] for image in truth["images"]}
    unknown: dict[Any, int] = {}
    for row in results:
        if row["image_id"] not in listed:
            unknown[row["image_id"]] = unknown.get(row["image_id"], 0) + 1
    if unknown:
        raise unlabelled_images(unknown, len(listed), path, file)
    numbers = [ids[name] for name in known]
    other = sum(row["category_id"] not in set(numbers) for row in results)
    if other:
        notes.append(f"left out {other} detections of other categories")
    if matching is None:
        return _coco_scores(path, results, truth, known, numbers, notes)
    table = _coco_table(results, truth, numbers)
    return (score_boxes(path, "COCO results", table, known, ap_rule, matching, notes),)


def _read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of COCO results.

    Raises:
        DataError: The file is missing, no json, or a row lacks a field.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("the file of results does not exist", where=path) from None
    except ValueError as error:
        raise DataError(f"the file of results is no json: {error}", where=path) from error
    if not isinstance(rows, list):
        raise DataError(
            f"the file holds {type(rows).__name__}; expected a list of detections",
            where=path,
            fix="name the results, [{'image_id': ..., 'category_id': ..., 'bbox': ..., 'score': ...}, ...], "
            "and the annotations by --labels",
        )
    for number, row in enumerate(rows):
        fields = row if isinstance(row, dict) else {}
        shaped = "segmentation" in fields or len(fields.get("bbox") or ()) in (4, 5, 8)
        if not shaped or not {"image_id", "category_id", "score"} <= set(fields):
            raise DataError(
                f"{str(row)[:100]} is no detection; expected image_id, category_id, score, and a "
                "segmentation or a bbox of 4, 5 or 8 numbers",
                where=f"{path}, entry {number}",
            )
    return rows


def _annotation_file(labels: Path) -> Path:
    """Return the annotation file: ``labels`` itself, or the only json file in it.

    Raises:
        DataError: There is none, or several.
    """
    if not labels.is_dir():
        return labels
    found = sorted(labels.glob("*.json"))
    if len(found) != 1:
        raise DataError(
            f"{len(found)} json files in the folder; expected the annotation file of the results",
            where=labels,
            fix="name the file itself: --labels FOLDER/instances_val.json",
        )
    return found[0]


def _coco_scores(
    path: Path,
    results: Sequence[dict[str, Any]],
    truth: Content,
    classes: tuple[str, ...],
    numbers: Sequence[Any],
    notes: Sequence[str],
) -> tuple[ResultScores, ...]:
    """Evaluate boxes where all results have them, and masks likewise."""
    kinds: list[IouType] = []
    if all(len(row.get("bbox") or ()) == 4 for row in results):
        kinds.append("bbox")
    if results and all("segmentation" in row for row in results):
        kinds.append("segm")
    if not kinds:
        raise ConfigError(
            "COCO's rules need upright boxes x, y, width, height or masks in all results",
            where=str(path),
            fix="choose --rules devkit or mmrotate for oriented boxes",
        )
    scored = []
    sizes = _sizes(truth)
    for kind in kinds:
        detections = CocoDetections(
            [row["image_id"] for row in results],
            [row["category_id"] for row in results],
            np.array([row["score"] for row in results], dtype=np.float64),
            np.array([row.get("bbox") or (0, 0, 0, 0) for row in results], dtype=np.float64).reshape(-1, 4),
            [run_lengths(row["segmentation"], *sizes[row["image_id"]]) for row in results]
            if kind == "segm"
            else (),
        )
        images = [image["id"] for image in truth["images"]]
        scores = evaluate_coco(_with_boxes(truth), detections, kind, numbers, images)
        rows = _coco_rows(scores, truth, results, classes, numbers)
        protocol = f"COCO rules, at most {scores.limits[-1]} detections an image, {len(images)} images"
        scored.append(ResultScores(path, f"COCO {kind}", protocol, _coco_metrics(scores), rows, tuple(notes)))
    return tuple(scored)


def _with_boxes(truth: Content) -> Content:
    """Return annotations that all have an upright box and an area."""
    sizes = _sizes(truth)
    annotations = []
    for item in truth["annotations"]:
        box = list(item.get("bbox") or ())
        if len(box) != 4:
            corners = np.array(_corners(item, sizes[item["image_id"]])).reshape(4, 2)
            low, high = corners.min(axis=0), corners.max(axis=0)
            box = [*low.tolist(), *(high - low).tolist()]
        annotations.append({**item, "bbox": box, "area": item.get("area") or float(box[2] * box[3])})
    return {**truth, "annotations": annotations}


def _sizes(truth: Content) -> dict[Any, tuple[int, int]]:
    """Return height and width of each image by its id."""
    return {image["id"]: (int(image["height"]), int(image["width"])) for image in truth["images"]}


def _corners(row: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, ...]:
    """Return four corners of a detection or annotation.

    They are a bbox of eight numbers, that of five (cx, cy, w, h, radians), a polygon of four points, a bbox
    of four (x, y, w, h), or the bounds of a mask; the first of these that the row has.
    """
    box, shape = [float(value) for value in row.get("bbox") or ()], row.get("segmentation")
    if len(box) == 8:
        return tuple(box)
    if len(box) == 5:
        return tuple(rbox_to_quad([box]).reshape(-1).tolist())
    if isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8:
        return tuple(map(float, shape[0]))
    x, y, w, h = box if len(box) == 4 else coco_mask.toBbox(run_lengths(shape, *size)).tolist()
    return x, y, x + w, y, x + w, y + h, x, y + h


def _coco_table(results: Sequence[dict[str, Any]], truth: Content, numbers: Sequence[Any]) -> DetectionTable:
    """Return COCO results and annotations as oriented boxes; crowds are ignored."""
    labels = {number: label for label, number in enumerate(numbers)}
    places = {image["id"]: place for place, image in enumerate(truth["images"])}
    sizes = _sizes(truth)
    found, known = (
        sorted((row for row in rows if row["category_id"] in labels), key=lambda row: places[row["image_id"]])
        for rows in (results, truth["annotations"])
    )

    def columns(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.array([places[row["image_id"]] for row in rows], dtype=np.int64),
            np.array([_corners(row, sizes[row["image_id"]]) for row in rows]).reshape(-1, 8),
            np.array([labels[row["category_id"]] for row in rows], dtype=np.int64),
        )

    image, boxes, kinds = columns(found)
    truth_image, corners, truth_kinds = columns(known)
    return DetectionTable(
        names=tuple(str(image["file_name"]) for image in truth["images"]),
        image=image,
        boxes=boxes,
        scores=np.array([row["score"] for row in found], dtype=np.float64),
        labels=kinds,
        truth_image=truth_image,
        truth=corners,
        truth_labels=truth_kinds,
        ignored=np.array([bool(row.get("iscrowd")) for row in known], dtype=bool),
    )


def _coco_metrics(scores: CocoScores) -> dict[str, float]:
    """Return the twelve numbers that pycocotools prints."""
    areas = AREAS[1:]
    return {
        "mAP": scores.average_precision(),
        "mAP50": scores.average_precision(iou=0.5),
        "mAP75": scores.average_precision(iou=0.75),
        **{f"mAP_{area}": scores.average_precision(area=area) for area in areas},
        **{f"AR@{limit}": scores.average_recall(limit=limit) for limit in scores.limits},
        **{f"AR_{area}": scores.average_recall(area=area) for area in areas},
    }


def _coco_rows(
    scores: CocoScores,
    truth: Content,
    results: Sequence[dict[str, Any]],
    classes: tuple[str, ...],
    numbers: Sequence[Any],
) -> tuple[ClassRow, ...]:
    objects = Counter(item["category_id"] for item in truth["annotations"] if not item.get("iscrowd"))
    found = Counter(row["category_id"] for row in results)
    return tuple(
        ClassRow(
            name,
            objects[number],
            found[number],
            scores.average_precision(iou=0.5, category=place),
            scores.average_precision(iou=0.75, category=place),
            scores.average_precision(category=place),
        )
        for place, (name, number) in enumerate(zip(classes, numbers, strict=True))
    )
