"""Test-time augmentation of oriented detectors: flips and scales, merged by rotated NMS."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData

from rsfoundation.core.errors import ConfigError
from rsfoundation.geometry.boxes import Boxes, flip, suppress
from rsfoundation.models.segmentors.test_time_augmentation import check_adapters_merged
from rsfoundation.registry import MODELS

SCALES = (0.5, 1.0, 1.5)
FLIPS = (None, "horizontal", "vertical")
_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


@MODELS.register_module()
class OrientedTTA(BaseTTAModel):
    """A detector of oriented boxes that predicts several views of each image.

    Boxes of all views are mapped back to pixels of the file and pass rotated NMS per class together.

    Args:
        module: The detector.
        merge_iou: Of the NMS.
        class_agnostic: Whether the NMS compares detections of different classes too.
        max_per_image: Most detections of an image, best first.
        data_preprocessor: Replaces the detector's own.
    """

    def __init__(
        self,
        module: Any,
        merge_iou: float = 0.1,
        class_agnostic: bool = False,
        max_per_image: int = 2000,
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        self.merge_iou = merge_iou
        self.class_agnostic = class_agnostic
        self.max_per_image = max_per_image

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """Merge the views of each image into one sample."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[DetDataSample]) -> DetDataSample:
        boxes = np.concatenate([unflipped(view) for view in views])
        found = [view.pred_instances for view in views]
        scores = torch.cat([one.scores for one in found]).cpu().numpy()
        labels = torch.cat([one.labels for one in found]).cpu().numpy()
        kept = suppress(boxes, scores, labels, self.merge_iou, self.class_agnostic)
        kept = kept[np.argsort(-scores[kept], kind="stable")][: self.max_per_image]
        merged = views[0].new()
        merged.pred_instances = InstanceData(
            bboxes=torch.from_numpy(boxes[kept].astype(np.float32)),
            scores=torch.from_numpy(scores[kept]),
            labels=torch.from_numpy(labels[kept]),
        )
        return merged


def unflipped(view: DetDataSample) -> Boxes:
    """Return the boxes ``(n, 5)`` of a view in pixels of the file.

    The detector has divided them by the scale already. The image was mirrored after it was resized to
    ``W s`` pixels, ``x' = W s - 1 - x s``; so ``x = W - 1 / s - x' / s``, which is not the mirror image
    ``W - 1 - x'`` of the file unless ``s`` is 1.
    """
    boxes = get_box_tensor(view.pred_instances.bboxes).detach().cpu().double().numpy().reshape(-1, 5)
    if not view.metainfo.get("flip", False):
        return boxes
    height, width = view.metainfo["ori_shape"][:2]
    along_x, along_y = view.metainfo.get("scale_factor", (1.0, 1.0))[:2]
    rows, columns = height - 1 / along_y + 1, width - 1 / along_x + 1
    return flip(boxes, rows, columns, view.metainfo["flip_direction"])


def use_tta(
    cfg: Config, merge_iou: float, adapters_merged: bool = False, class_agnostic: bool = False
) -> None:
    """Change a config so that its test set is tested at several scales and flips.

    The config may choose them: ``tta = dict(scales=(0.5, 1.0, 1.5), flips=(None, 'horizontal'))``.

    Args:
        cfg: The config, changed in place.
        merge_iou: IoU of the NMS that merges the views.
        adapters_merged: LoRA adapters are merged into the weights before the model is wrapped.
        class_agnostic: Whether that NMS compares detections of different classes too.

    Raises:
        ConfigError: The test pipeline has no resizing step, or the model has adapters that are not merged.
    """
    check_adapters_merged(cfg, adapters_merged)
    steps = cfg.test_dataloader.dataset.pipeline
    places = [place for place, step in enumerate(steps) if str(step["type"]).rsplit(".", 1)[-1] == "Resize"]
    if not places:
        raise ConfigError(
            "test-time augmentation changes the Resize step of the test pipeline, and there is none",
            where=f"{cfg.filename}: test_dataloader.dataset.pipeline",
            fix="add dict(type='mmdet.Resize', scale=(1024, 1024), keep_ratio=True) after the loading step",
        )
    choice = cfg.get("tta") or {}
    scales, flips = choice.get("scales", SCALES), choice.get("flips", FLIPS)
    before, resize, after = steps[: places[0]], steps[places[0]], steps[places[0] + 1 :]
    views = [
        [_resized(resize, scale) for scale in scales],
        [_flipped(direction) for direction in flips],
        *([_with_meta(step)] for step in after),
    ]
    cfg.test_dataloader.dataset.pipeline = [*before, dict(type="TestTimeAug", transforms=views)]
    cfg.tta_model = dict(type="rsfoundation.OrientedTTA", merge_iou=merge_iou, class_agnostic=class_agnostic)
    cfg.use_tta = True


def _resized(step: dict, factor: float) -> dict:
    if step.get("scale") is None:
        known = np.broadcast_to(step.get("scale_factor", 1.0), 2)
        return {**step, "scale_factor": tuple((known * factor).tolist())}
    return {**step, "scale": tuple(round(side * factor) for side in step["scale"])}


def _flipped(direction: str | None) -> dict:
    chance = 0.0 if direction is None else 1.0
    return dict(type="rsfoundation.RandomFlip", prob=chance, direction=direction or "horizontal")


def _with_meta(step: dict) -> dict:
    """Let the packing step keep the image info that undoing a flip needs."""
    if not str(step["type"]).endswith("PackDetInputs"):
        return step
    return {**step, "meta_keys": tuple(dict.fromkeys((*step.get("meta_keys", ()), *_META)))}
