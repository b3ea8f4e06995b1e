"""What instance segmentation declares to engine, inference and console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData

from rsfoundation.instance.coco_truth import find_coco_truth
from rsfoundation.instance.cropped_mask import CroppedMask
from rsfoundation.instance.drawing import draw_instances, legend_entries
from rsfoundation.instance.merging import MaskMerger
from rsfoundation.instance.result import InstanceMasks, write_json, write_png
from rsfoundation.registry import TASKS
from rsfoundation.task import Classes, Task, Writer
from rsfoundation.visualization import add_legend, side_by_side

_SHOWN = 0.3  # score from which a comparison shows an object
_FIGURES = {"mAP": "mAP", "mAP_50": "mAP50", "mAP_75": "mAP75"}  # of CocoMetric, and unified


@TASKS.register_module()
class InstanceSegmentation(Task):
    """Objects with upright boxes and masks.

    Args:
        same_object: Overlap from which the masks of two windows are one object, see
            :class:`~rsfoundation.instance.merging.MaskMerger`.
    """

    name: ClassVar[str] = "instance"
    metric_names: ClassVar[Mapping[str, str]] = {
        f"coco/{kind}_{theirs}": f"{kind}_{ours}"
        for kind in ("segm", "bbox")
        for theirs, ours in _FIGURES.items()
    }
    primary_metric: ClassVar[str] = "segm_mAP"
    writers: ClassVar[Mapping[str, Writer]] = {"json": write_json, "png": write_png}

    def __init__(self, same_object: float = 0.5) -> None:
        self.same_object = same_object

    def accumulator(self, height: int, width: int, classes: Classes, score_threshold: float) -> MaskMerger:
        """Return an empty merger for a scene."""
        return MaskMerger(height, width, classes, score_threshold, self.same_object)

    def draw_result(
        self, images: Sequence[np.ndarray], result: InstanceMasks, classes: Classes
    ) -> np.ndarray:
        """Draw the masks over the scene, with a legend of the classes found."""
        return add_legend(draw_instances(images[0], result, classes), legend_entries([result], classes))

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw the ground truth of a sample over its image, with a legend."""
        truth = _collect(_detection(sample).get("gt_instances"), images[0], classes)
        picture = draw_instances(images[0], truth, classes, with_score=False)
        return add_legend(picture, legend_entries([truth], classes))

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw ground truth and prediction of one tested sample side by side."""
        image = images[0]
        truth = _collect(_detection(sample).get("gt_instances"), image, classes)
        found = _collect(_detection(sample).get("pred_instances"), image, classes)
        panels = [
            (f"ground truth: {len(truth.masks)}", draw_instances(image, truth, classes, with_score=False)),
            (f"prediction: {len(found.masks)} (score >= {_SHOWN})", draw_instances(image, found, classes)),
        ]
        return add_legend(side_by_side(panels), legend_entries([truth, found], classes))

    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the image a tested sample was read from."""
        return [sample.metainfo["img_path"]]

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> DetDataSample | None:
        """Read the truth of ``<root>/<split>/<name>`` from ``<root>/annotations``; None if there is none."""
        return find_coco_truth(paths[0], classes)


def _detection(sample: BaseDataElement) -> DetDataSample:
    if not isinstance(sample, DetDataSample):
        raise TypeError(f"expected a DetDataSample, found {type(sample).__name__}")
    return sample


def _collect(instances: InstanceData | None, image: np.ndarray, classes: Classes) -> InstanceMasks:
    """Take ground truth (scores of 1) or the predictions worth showing out of a sample."""
    masks: list[CroppedMask] = []
    scores, labels = [], []
    for mask, score, label in _objects(instances):
        cropped = CroppedMask.cut_out(mask)
        if cropped is not None and score >= _SHOWN:
            masks.append(cropped)
            scores.append(score)
            labels.append(label)
    height, width = image.shape[:2]
    return InstanceMasks(
        height, width, tuple(masks), np.array(scores), np.array(labels, dtype=int), classes.names
    )


def _objects(instances: InstanceData | None) -> list[tuple[np.ndarray, float, int]]:
    """Return mask ``(H, W)``, score and label of every object of a sample."""
    if instances is None or "masks" not in instances:
        return []
    masks = instances.masks
    stack = masks.to_ndarray() if isinstance(masks, BitmapMasks | PolygonMasks) else masks.cpu().numpy()
    labels = instances.labels.cpu().tolist()
    scores = instances.scores.cpu().tolist() if "scores" in instances else [1.0] * len(labels)
    return list(zip(stack, scores, labels, strict=True))
