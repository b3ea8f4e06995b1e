"""An evaluation as files: JSON for machines, curves, bars and a confusion matrix as pictures."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.evaluation.average_precision import ClassCurve
from rsfoundation.evaluation.oriented.evaluate import CONFUSION_SCORE, THRESHOLDS, Evaluation
from rsfoundation.evaluation.pictures import INK, draw_confusion_matrix, new_figure
from rsfoundation.visualization import palette

_BARS = {"AP50": "#4c9be8", "AP75": "#f2a541", "AP": "#5a6b7b"}
_LEGEND_ROW = 0.18  # inches


def draw_curves(evaluation: Evaluation, path: Path) -> None:
    """Draw precision over recall at IoU 0.5, one line per class with objects, the best class first.

    Args:
        evaluation: The evaluation.
        path: The PNG file.
    """
    order = _by_ap(evaluation)
    figure, axes = new_figure(11, max(6.5, 1 + _LEGEND_ROW * len(order)))
    aps, colours = evaluation.aps()[:, 0], palette(len(evaluation.classes))
    for label in order:
        curve = evaluation.curves[label][0]
        start = curve.precision[:1] if len(curve.precision) else [0]  # objects, and not one detection
        recall, precision = np.r_[0, curve.recall], np.r_[start, curve.precision]
        colour = np.array(colours[label]) / 255 * 0.8  # for aerial images they are brighter than for paper
        axes.plot(
            recall,
            precision,
            color=colour,
            linewidth=1.6,
            label=f"{evaluation.classes[label]}  {aps[label]:.3f}",
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title(f"IoU 0.5, mAP50 {evaluation.mean(aps):.3f} ({_protocol(evaluation)})")
    axes.grid(alpha=0.3)
    if order:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, title="class, AP50")
    figure.savefig(path, dpi=110)


def draw_bars(evaluation: Evaluation, path: Path) -> None:
    """Draw a table of classes: numbers of objects and detections, recall, and bars of three APs.

    Args:
        evaluation: The evaluation.
        path: The PNG file.
    """
    order = _by_ap(evaluation) or list(range(len(evaluation.classes)))
    figure, axes = new_figure(11, 1.6 + 0.42 * len(order))
    aps = evaluation.aps()
    shown = {"AP50": aps[:, 0], "AP75": aps[:, THRESHOLDS.index(0.75)], "AP": aps.mean(axis=1)}
    rows = np.arange(len(order))[::-1]
    for place, (name, values) in enumerate(shown.items()):
        bars = axes.barh(
            rows + 0.27 - 0.27 * place, np.nan_to_num(values[order]), 0.25, color=_BARS[name], label=name
        )
        axes.bar_label(bars, [f"{value:.3f}" for value in values[order]], padding=2, fontsize=6.5, color=INK)
    names = [_row_name(evaluation, label) for label in order]
    axes.set_yticks(rows, names, fontsize=8, family="monospace")
    axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4), xlabel="average precision")
    means = ", ".join(f"{name} {evaluation.mean(values):.3f}" for name, values in shown.items())
    axes.set_title(
        f"mean: {means} ({_protocol(evaluation)})\nclass: objects / detections / recall at IoU 0.5",
        fontsize=9,
    )
    axes.grid(alpha=0.3, axis="x")
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=110)


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw which classes objects were detected as; classes without objects and detections are left out.

    Args:
        evaluation: The evaluation.
        path: The PNG file.
    """
    counts = evaluation.confusion
    seen = np.flatnonzero((counts.sum(axis=0) + counts.sum(axis=1))[:-1] > 0)
    chosen = np.r_[seen, len(evaluation.classes)]
    draw_confusion_matrix(
        counts[np.ix_(chosen, chosen)],
        [*(evaluation.classes[label] for label in seen), "background"],
        path,
        f"score >= {CONFUSION_SCORE}, IoU >= 0.5; last column: missed, last row: nothing there\n"
        f"{_protocol(evaluation)}",
        ("labelled as", "detected as"),
    )


def _by_ap(evaluation: Evaluation) -> list[int]:
    """Return the labels of classes with objects, best AP50 first."""
    aps = evaluation.aps()[:, 0]
    return [int(label) for label in np.argsort(-aps, kind="stable") if np.isfinite(aps[label])]


def _protocol(evaluation: Evaluation) -> str:
    return f"{evaluation.rule}, {evaluation.matching} matching, {evaluation.images} images"


def _row_name(evaluation: Evaluation, label: int) -> str:
    curve = evaluation.curves[label][0]
    recall = curve.recall[-1] if len(curve.recall) else 0.0
    return f"{evaluation.classes[label]}: {curve.objects} / {curve.detections} / {recall:.2f}"


_RECALLS = np.linspace(0, 1, 101)


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json``, ``precision_recall.png``, ``classes.png`` and ``confusion.png``.

    Args:
        evaluation: The evaluation.
        folder: Created where needed.

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
    """Return the evaluation as plain values; metrics that do not exist are ``None``."""
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
