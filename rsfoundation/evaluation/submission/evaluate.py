"""Evaluating result files, of any program, against labels: DOTA Task1 and Task2, FAIR1M, and COCO results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args
from zipfile import ZipFile

import numpy as np

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, FAIR1M_CLASSES
from rsfoundation.evaluation.average_precision import ApRule
from rsfoundation.evaluation.oriented.image_results import (
    DetectionTable,
    LabelFolder,
    devkit_ignored_difficulty,
)
from rsfoundation.evaluation.oriented.matching import Matching
from rsfoundation.evaluation.submission.archive import base_name, file_names, open_zip
from rsfoundation.evaluation.submission.check import is_fair1m
from rsfoundation.evaluation.submission.coco_results import evaluate_coco_results
from rsfoundation.evaluation.submission.dota_results import ResultRow, Task, is_of_task, read_dota, task_of
from rsfoundation.evaluation.submission.fair1m_results import read_fair1m
from rsfoundation.evaluation.submission.result_scores import ResultScores, score_boxes, unlabelled_images

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
