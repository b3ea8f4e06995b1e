"""An evaluation of label maps as files: JSON for machines, confusion matrices as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.core.files import write_json
from rsfoundation.evaluation.change_metric import SemanticChangeEvaluation
from rsfoundation.evaluation.pictures import draw_confusion_matrix, report_folders
from rsfoundation.evaluation.segmentation_metric import LabelMapEvaluation, LabelMapMetric


def write_label_map_reports(metrics: Sequence[Any], folder: Path) -> list[Path]:
    """Write the evaluation of each metric of label maps to ``evaluation/``, ``evaluation_2/`` and so on.

    Args:
        metrics: The evaluator's metric objects after a test; others are left out.
        folder: The run folder.

    Returns:
        The files.
    """
    folders = report_folders(metrics, LabelMapMetric, folder)
    return [file for evaluation, target in folders for file in write_label_map_report(evaluation, target)]


def write_label_map_report(evaluation: LabelMapEvaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and ``confusion.png``; for semantic change a picture of changes, too.

    Args:
        evaluation: The evaluation.
        folder: Created where needed.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, picture = folder / "evaluation.json", folder / "confusion.png"
    write_json(record, report_content(evaluation))
    names, matrix = list(evaluation.classes), evaluation.matrix
    if matrix[:, -1].any():
        names.append("no class")
        matrix = np.vstack([matrix, np.zeros_like(matrix[:1])])
    else:
        matrix = matrix[:, :-1]
    draw_confusion_matrix(
        matrix, names, picture, f"pixels, {evaluation.protocol}", ("labelled as", "predicted as")
    )
    files = [record, picture]
    if isinstance(evaluation, SemanticChangeEvaluation):
        for kind, counts in zip(("true", "predicted"), evaluation.transitions, strict=True):
            file = folder / f"transitions_{kind}.png"
            title = f"{kind} changes of land cover, pixels"
            draw_confusion_matrix(counts, evaluation.classes, file, title, ("before", "after"))
            files.append(file)
    return files


def report_content(evaluation: LabelMapEvaluation) -> dict[str, Any]:
    """Return the evaluation as plain values; the last column of matrices counts predictions of no class."""
    content: dict[str, Any] = {
        "protocol": evaluation.protocol,
        "metrics": dict(evaluation.metrics),
        "classes": list(evaluation.classes),
        "confusion_truth_by_row": evaluation.matrix.tolist(),
    }
    if isinstance(evaluation, SemanticChangeEvaluation):
        first, second = evaluation.dates.tolist()
        true, predicted = evaluation.transitions.tolist()
        content["confusion_of_dates"] = {"first": first, "second": second}
        content["transitions_before_by_row"] = {"true": true, "predicted": predicted}
    return content
