"""What change detection declares to engine, inference and console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.structures import BaseDataElement
from mmseg.structures import SegDataSample

from rsfoundation.change.beside import find_label
from rsfoundation.change.pictures import compare_changes, draw_change
from rsfoundation.change.result import ChangeMap, write_json, write_png
from rsfoundation.registry import TASKS
from rsfoundation.structures.scene_labels import LabelMapAccumulator, plane
from rsfoundation.task import Classes, Task, Writer


class _ChangeAccumulator(LabelMapAccumulator):
    """Merges windows into a :class:`ChangeMap`."""

    def result(self) -> ChangeMap:
        merged = super().result()
        return ChangeMap(merged.labels, merged.classes)


@TASKS.register_module()
class ChangeDetection(Task):
    """Which pixels changed between two dates."""

    name: ClassVar[str] = "change"
    metric_names: ClassVar[Mapping[str, str]] = {
        "changed/F1": "changed/F1",
        "changed/IoU": "changed/IoU",
        "changed/Precision": "changed/Precision",
        "changed/Recall": "changed/Recall",
    }
    primary_metric: ClassVar[str] = "changed/F1"
    images_per_scene: ClassVar[int] = 2
    writers: ClassVar[Mapping[str, Writer]] = {"png": write_png, "json": write_json}

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return what the pair's loading steps would have left: both crops, and no labels yet."""
        size = crops[0].shape[:2]
        return dict(img=list(crops), img_shape=size, ori_shape=size, img_path=["", ""], seg_fields=[])

    def accumulator(
        self, height: int, width: int, classes: Classes, score_threshold: float
    ) -> _ChangeAccumulator:
        """Return an empty change map; a pixel changed where that is the more probable class."""
        return _ChangeAccumulator(height, width, classes)

    def draw_result(self, images: Sequence[np.ndarray], result: ChangeMap, classes: Classes) -> np.ndarray:
        """Draw both dates and what changed."""
        return draw_change(images, result.labels)

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw both dates and what truly changed."""
        return draw_change(images, plane(sample, "gt_sem_seg") == 1)

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw both dates, ground truth and prediction of one tested sample."""
        return compare_changes(images, plane(sample, "gt_sem_seg"), plane(sample, "pred_sem_seg"))

    def draw_scene_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, result: ChangeMap, classes: Classes
    ) -> np.ndarray:
        """Draw both dates, ground truth and prediction of a whole scene."""
        return compare_changes(images, plane(sample, "gt_sem_seg"), result.labels)

    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the two images a tested sample was read from."""
        return list(sample.metainfo["img_path"])

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> SegDataSample | None:
        """Read the label beside a pair in LEVIR-CD's layout; ``None`` where there is none."""
        return find_label(paths[0])
