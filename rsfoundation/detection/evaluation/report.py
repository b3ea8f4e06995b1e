"""An evaluation as files: JSON for machines, curves, bars and a confusion matrix as pictures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.detection.average_precision import ClassCurve
from rsfoundation.detection.evaluation.evaluate import CONFUSION_SCORE, THRESHOLDS, Evaluation
from rsfoundation.detection.evaluation.pictures import draw_bars, draw_confusion, draw_curves

_RECALLS = np.linspace(0, 1, 101)


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``precision_recall.png``, ``classes.png`` and ``confusion.png``.

    Args:
        evaluation: What was measured.
        folder: Made when it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "evaluation.json"
    record.write_text(json.dumps(content(evaluation), indent=1) + "\n", encoding="utf-8")
    pictures = {
        "precision_recall.png": draw_curves,
        "classes.png": draw_bars,
        "confusion.png": draw_confusion,
    }
    for name, draw in pictures.items():
        draw(evaluation, folder / name)
    return [record, *(folder / name for name in pictures)]


def content(evaluation: Evaluation) -> dict[str, Any]:
    """Return the evaluation as plain values; figures that do not exist are ``None``."""
    aps = {rule: evaluation.aps(rule) for rule in ("voc07", "voc12")}
    classes = []
    for label, (name, curves) in enumerate(zip(evaluation.classes, evaluation.curves, strict=True)):
        f1, score = curves[0].best_f1()
        classes.append(
            {
                "name": name,
                "objects": curves[0].objects,
                "detections": curves[0].detections,
                "recall50": float(curves[0].recall[-1]) if len(curves[0].recall) else 0.0,
                "best_f1": f1,
                "best_f1_score": score,
                **{f"ap_{rule}": _plain(table[label]) for rule, table in aps.items()},
                "precision_recall50": _sampled(curves[0]),
            }
        )
    return {
        "rule": evaluation.rule,
        "matching": evaluation.matching,
        "images": evaluation.images,
        "thresholds": THRESHOLDS,
        "metrics": {name: _number(value) for name, value in evaluation.metrics().items()},
        "classes": classes,
        "confusion": {
            "score": CONFUSION_SCORE,
            "iou": 0.5,
            "names": [*evaluation.classes, "background"],
            "truth_by_row": evaluation.confusion.tolist(),
        },
    }


def _sampled(curve: ClassCurve) -> dict[str, list[float]]:
    """Return the curve at a hundred recalls, as far as it goes."""
    if not len(curve.recall) or curve.objects == 0:
        return {"recall": [], "precision": [], "score": []}
    places = np.searchsorted(curve.recall, _RECALLS[curve.recall[-1] >= _RECALLS])
    columns = {"recall": curve.recall, "precision": curve.precision, "score": curve.scores}
    return {name: np.round(column[places].astype(float), 6).tolist() for name, column in columns.items()}


def _plain(values: np.ndarray) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
