"""What change detection declares to engine, inference and console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.structures import BaseDataElement, PixelData
from mmseg.structures import SegDataSample

from rsfoundation.core.task import (
    ChecksData,
    Classes,
    Draws,
    Evaluates,
    RunRequest,
    Task,
    Writer,
)
from rsfoundation.evaluation.label_map_report import write_label_map_reports
from rsfoundation.inference.label_maps import ChangeMap, PredictsLabelMaps, SceneMap, plane
from rsfoundation.inference.label_maps import write_change_json as write_json
from rsfoundation.inference.label_maps import write_change_png as write_png
from rsfoundation.io.label_images import decode_change, read_label_image
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.models.segmentors.test_time_augmentation import use_segmentation_tta
from rsfoundation.registry import TASKS
from rsfoundation.visualization import (
    Colour,
    add_legend,
    magnification,
    magnify,
    magnify_and_tint,
    side_by_side,
)

_CHANGED: Colour = (255, 64, 64)
# Okabe and Ito's palette tells these apart with every kind of colour vision.
_HIT: Colour = (0, 158, 115)
_FALSE: Colour = (213, 94, 0)
_MISSED: Colour = (86, 180, 233)
_ERRORS = (("changed, found", _HIT), ("false alarm", _FALSE), ("missed", _MISSED))


def draw_change(images: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Set both dates and the second one tinted where it changed side by side.

    Args:
        images: RGB ``uint8`` ``(H, W, 3)`` of both dates.
        labels: ``(H, W)``, 1 where changed; 255, no data, is not counted.
    """
    changed = labels == 1
    share = changed.sum() / max(1, np.count_nonzero(labels != IGNORED))
    panels = [*_dates(images), (f"changed: {share:.1%}", _tint(images[1], changed, (_CHANGED,)))]
    return add_legend(side_by_side(panels), [("changed", _CHANGED)])


def compare_changes(images: Sequence[np.ndarray], truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Set both dates, ground truth and prediction side by side; the last panel shows kinds of error.

    Args:
        images: RGB ``uint8`` ``(H, W, 3)`` of both dates.
        truth: ``(H, W)`` 0 or 1; 255 is ignored.
        prediction: ``(H, W)`` 0 or 1.
    """
    panels = [
        *_dates(images),
        ("ground truth", _tint(images[1], truth == 1, (_CHANGED,))),
        ("prediction", _tint(images[1], error_map(truth, prediction), (_HIT, _FALSE, _MISSED))),
    ]
    return add_legend(side_by_side(panels), [("changed", _CHANGED), *_ERRORS])


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return 0 where nothing is to be shown, 1 for hits, 2 for false alarms, 3 for misses.

    Args:
        truth: Labels ``(H, W)``: 0, 1, or 255 for ignored.
        prediction: Predicted labels ``(H, W)``.
    """
    hit, false, missed = (truth == 1) & (prediction == 1), (truth == 0) & (prediction == 1), truth == 1
    kinds = np.select([truth == IGNORED, hit, false, missed], [0, 1, 2, 3], default=0)
    return kinds.astype(np.uint8)


def _dates(images: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    factor = magnification(images[0])
    captions = ("first date", "second date")
    return [(caption, magnify(image, factor)) for caption, image in zip(captions, images, strict=True)]


def _tint(image: np.ndarray, kinds: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Tint kind 1, 2, ... of ``kinds`` with the colours in turn; kind 0 stays untouched."""
    return magnify_and_tint(image, kinds, ((0, 0, 0), *colours), clear=(0,))


def find_label(first_date: Path) -> SegDataSample | None:
    """Read ``<split>/label/<name>`` next to ``<split>/A/<name>``, as LEVIR-CD lays it out.

    Returns:
        A sample with ``gt_sem_seg`` of 0 and 1; ``None`` where there is no label.
    """
    label = first_date.parent.parent / "label" / first_date.name
    if first_date.parent.name != "A" or not label.is_file():
        return None
    changed = decode_change(read_label_image(label))
    return SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(changed.astype(np.int64))[None]))


@TASKS.register_module()
class ChangeDetection(Task, Evaluates, Draws, PredictsLabelMaps, ChecksData):
    """Which pixels changed between two dates."""

    name: ClassVar[str] = "change"
    metric_names: ClassVar[Mapping[str, str]] = {
        "changed/F1": "changed/F1",
        "changed/IoU": "changed/IoU",
        "changed/Precision": "changed/Precision",
        "changed/Recall": "changed/Recall",
        "SeK": "SeK",  # of semantic change
        "SCD_Score": "SCD_Score",
    }
    primary_metric: ClassVar[str] = "changed/F1"
    images_per_scene: ClassVar[int] = 2
    background: ClassVar[int | None] = 0
    map_type: ClassVar[type[SceneMap]] = ChangeMap
    writers: ClassVar[Mapping[str, Writer]] = {"png": write_png, "json": write_json}

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return what the pair's loading steps would have left: both crops, and no labels yet."""
        size = crops[0].shape[:2]
        return dict(img=list(crops), img_shape=size, ori_shape=size, img_path=["", ""], seg_fields=[])

    def prepare_config(self, cfg: Any, request: RunRequest) -> None:
        """Let test and prediction see several views of each image where the user asks for it."""
        if request.tta and request.stage != "train":
            use_segmentation_tta(cfg, adapters_merged=request.stage == "predict")
            request = replace(request, tta=False)
        super().prepare_config(cfg, request)

    def draw_result(self, images: Sequence[np.ndarray], result: ChangeMap, classes: Classes) -> np.ndarray:
        """Draw both dates and what changed."""
        return draw_change(images, result.labels)

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw both dates and what truly changed."""
        return draw_change(images, plane(sample, "gt_sem_seg"))

    def sample_error(self, sample: BaseDataElement) -> float:
        """Return 1 - IoU of the changed pixels; 0 where neither truth nor prediction has any."""
        truth, found = plane(sample, "gt_sem_seg"), plane(sample, "pred_sem_seg")
        counted = truth != IGNORED
        one, two = (truth == 1) & counted, (found == 1) & counted
        union = int((one | two).sum())
        return 1 - int((one & two).sum()) / union if union else 0.0

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

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write ``evaluation/`` with all metrics and the confusion matrix."""
        return write_label_map_reports(metrics, folder)

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> SegDataSample | None:
        """Read the label next to a pair in LEVIR-CD's layout; ``None`` where there is none."""
        return find_label(paths[0])


@TASKS.register_module()
class SemanticChangeDetection(ChangeDetection):
    """Which pixels changed between two dates, and the land cover of both where they did.

    Tests measure both; pictures and scenes show which pixels changed.
    """

    name: ClassVar[str] = "semantic_change"
    metric_names: ClassVar[Mapping[str, str]] = {
        **ChangeDetection.metric_names,
        "semantic/Fscd": "semantic/Fscd",
        "semantic/mIoU": "semantic/mIoU",
        "binary/mIoU": "binary/mIoU",
    }
    primary_metric: ClassVar[str] = "SeK"
