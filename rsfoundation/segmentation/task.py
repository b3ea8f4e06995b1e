"""What semantic segmentation declares to engine, inference and console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.structures import BaseDataElement
from mmseg.structures import SegDataSample

from rsfoundation.registry import TASKS
from rsfoundation.segmentation.beside import find_mask
from rsfoundation.segmentation.pictures import compare_label_maps, draw_label_map
from rsfoundation.segmentation.result import SegmentationMap, write_json, write_png
from rsfoundation.structures.scene_labels import LabelMapAccumulator, plane
from rsfoundation.task import Classes, Task, Writer


class _SegmentationAccumulator(LabelMapAccumulator):
    """Merges windows into a :class:`SegmentationMap`."""

    def result(self) -> SegmentationMap:
        merged = super().result()
        return SegmentationMap(merged.labels, merged.classes)


@TASKS.register_module()
class SemanticSegmentation(Task):
    """One class per pixel."""

    name: ClassVar[str] = "segmentation"
    metric_names: ClassVar[Mapping[str, str]] = {"mIoU": "mIoU", "mF1": "mF1", "OA": "OA"}
    primary_metric: ClassVar[str] = "mIoU"
    writers: ClassVar[Mapping[str, Writer]] = {"png": write_png, "json": write_json}

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return what mmseg's loading steps would have left: the crop, and no labels yet."""
        return {**super().window_input(crops), "seg_fields": []}

    def accumulator(
        self, height: int, width: int, classes: Classes, score_threshold: float
    ) -> _SegmentationAccumulator:
        """Return an empty class map; the threshold has no meaning for classes that fill the scene."""
        return _SegmentationAccumulator(height, width, classes)

    def draw_result(
        self, images: Sequence[np.ndarray], result: SegmentationMap, classes: Classes
    ) -> np.ndarray:
        """Tint the scene with its class map."""
        return draw_label_map(images[0], result.labels, classes)

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Tint the image with its ground truth."""
        return draw_label_map(images[0], plane(sample, "gt_sem_seg"), classes)

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw image, ground truth and prediction of one tested sample."""
        truth, prediction = plane(sample, "gt_sem_seg"), plane(sample, "pred_sem_seg")
        return compare_label_maps(images[0], truth, prediction, classes)

    def draw_scene_comparison(
        self,
        images: Sequence[np.ndarray],
        sample: BaseDataElement,
        result: SegmentationMap,
        classes: Classes,
    ) -> np.ndarray:
        """Draw image, ground truth and prediction of a whole scene."""
        return compare_label_maps(images[0], plane(sample, "gt_sem_seg"), result.labels, classes)

    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the image a tested sample was read from."""
        return [sample.metainfo["img_path"]]

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> SegDataSample | None:
        """Read the colour-coded mask beside an image of ``img_dir``; ``None`` where there is none."""
        return find_mask(paths[0], classes)
