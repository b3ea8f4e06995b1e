"""Scores of result files of every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import plain_value
from rsfoundation.evaluation.average_precision import ApRule
from rsfoundation.evaluation.oriented.evaluate import Evaluation, evaluate
from rsfoundation.evaluation.oriented.image_results import DetectionTable
from rsfoundation.evaluation.oriented.matching import Matching

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
