"""What distillation of feature maps declares to engine and console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from rsfoundation.core.files import write_json
from rsfoundation.core.task import ChecksData, Classes, Draws, Evaluates, Task
from rsfoundation.evaluation.pictures import report_folders
from rsfoundation.registry import METRICS, TASKS

_SPREAD = 2.5  # standard deviations from black to white


@TASKS.register_module()
class Distillation(Task, Evaluates, Draws, ChecksData):
    """Feature maps of a teacher into a student; its pictures show principal components of both."""

    name: ClassVar[str] = "distillation"
    metric_names: ClassVar[Mapping[str, str]] = {
        key: key
        for key in ("relative_error", "cosine", "r2", "r2_p10", "r2_p90", "l1", "l1_constant", "box_iou")
    }
    primary_metric: ClassVar[str] = "relative_error"

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write ``evaluation/distillation.json`` with R² of every channel; see :class:`Evaluates`."""
        files = []
        for evaluation, target in report_folders(metrics, METRICS.get("DistillationMetric"), folder):
            write_json(target / "distillation.json", evaluation)
            files.append(target / "distillation.json")
        return files

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Return the image: the truth is what the teacher returns for it."""
        return images[0]

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Return the image and three principal components of both maps, side by side."""
        maps = [sample.get(name).float().cpu().numpy() for name in ("teacher_map", "student_map")]
        coloured = principal_components(maps[0], maps)
        side = (images[0].shape[1], images[0].shape[0])
        panels = [cv2.resize(one, side, interpolation=cv2.INTER_NEAREST) for one in coloured]
        return np.concatenate([images[0], *panels], axis=1)


def principal_components(reference: np.ndarray, maps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return maps as RGB images: the first three principal components of one of them, for all alike.

    Args:
        reference: ``(C, h, w)``, the map whose components are taken.
        maps: ``(C, h, w)`` each.

    Returns:
        ``(h, w, 3)`` uint8 each.
    """
    cells = reference.reshape(len(reference), -1).T
    mean = cells.mean(0)
    _, values, axes = np.linalg.svd(cells - mean, full_matrices=False)
    axes = axes[:3]
    deviation = np.maximum(values[:3] / np.sqrt(len(cells)), 1e-6)
    drawn = []
    for one in maps:
        scores = (one.reshape(len(one), -1).T - mean) @ axes.T / deviation
        levels = np.zeros((len(scores), 3))
        levels[:, : scores.shape[1]] = np.clip(0.5 + scores / (2 * _SPREAD), 0, 1)
        drawn.append((255 * levels).round().astype(np.uint8).reshape(*one.shape[1:], 3))
    return drawn
