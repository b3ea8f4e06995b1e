"""What semantic segmentation declares to engine, inference and console."""

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
    Submits,
    Task,
    Window,
    Writer,
)
from rsfoundation.evaluation.label_map_report import write_label_map_reports
from rsfoundation.evaluation.submission.label_maps import LabelMapSubmission
from rsfoundation.inference.label_maps import PredictsLabelMaps, SceneMap, SegmentationMap, plane
from rsfoundation.inference.label_maps import write_class_json as write_json
from rsfoundation.inference.label_maps import write_class_png as write_png
from rsfoundation.io.label_images import decode_mask, read_label_image
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.io.loading import PixelRange, found_range
from rsfoundation.io.rasters import RasterReader
from rsfoundation.models.segmentors.test_time_augmentation import use_segmentation_tta
from rsfoundation.registry import TASKS
from rsfoundation.visualization import (
    Colour,
    add_legend,
    class_entries,
    magnification,
    magnify,
    magnify_and_tint,
    side_by_side,
)

_WRONG: Colour = (255, 0, 255)


def draw_label_map(image: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Tint an image with its class map and add a legend of the classes that occur.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        labels: ``(H, W)`` class indices; 255 stays untouched.
        classes: Names and colours.
    """
    return add_legend(magnify_and_tint(image, labels, classes.palette), class_entries(classes, labels))


def compare_label_maps(
    image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, classes: Classes
) -> np.ndarray:
    """Set image, ground truth, prediction and wrong pixels side by side, with one legend.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        truth: ``(H, W)`` class indices; 255 is ignored.
        prediction: ``(H, W)`` class indices.
        classes: Names and colours.
    """
    right = _agreement(truth, prediction)
    wrong = (truth != IGNORED) & (truth != prediction)
    panels = [
        ("image", magnify(image, magnification(image))),
        ("ground truth", magnify_and_tint(image, truth, classes.palette)),
        (f"prediction: {right:.1%} right", magnify_and_tint(image, prediction, classes.palette)),
        (f"errors: {1 - right:.1%}", magnify_and_tint(image, wrong, ((0, 0, 0), _WRONG), clear=(0,))),
    ]
    return add_legend(side_by_side(panels), [*class_entries(classes, truth, prediction), ("wrong", _WRONG)])


def _agreement(truth: np.ndarray, prediction: np.ndarray) -> float:
    counted = truth != IGNORED
    return float((truth == prediction)[counted].mean()) if counted.any() else 1.0


def find_mask(image: Path, classes: Classes) -> SegDataSample | None:
    """Read ``label_dir/<split>/<name>.png`` next to ``img_dir/<split>/<name>``, colour-coded by the classes.

    Args:
        image: The image file.
        classes: Names and colours of the classes.

    Returns:
        A sample with ``gt_sem_seg``, colours of no class ignored; ``None`` where there is no mask.
    """
    if image.parent.parent.name != "img_dir":
        return None
    mask = image.parents[2] / "label_dir" / image.parent.name / f"{image.stem}.png"
    if not mask.is_file():
        return None
    labels, _ = decode_mask(read_label_image(mask), classes.palette)
    return SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(labels.astype(np.int64))[None]))


def _use_submission(cfg: Any, request: RunRequest) -> None:
    """Test the split of the server, which has no masks, and write an archive in place of metrics."""
    out = request.out or Path(cfg.work_dir) / "submission"
    cfg.test_evaluator = dict(type="rsfoundation.LabelMapSubmission", out=str(out))
    dataset = cfg.test_dataloader.dataset
    dataset.update(cfg.get("submission") or {})
    dataset.pipeline = [
        step for step in dataset.pipeline if not step["type"].endswith("LoadSegmentationMask")
    ]


@TASKS.register_module()
class SemanticSegmentation(Task, Evaluates, Draws, PredictsLabelMaps, ChecksData, Submits):
    """One class per pixel."""

    name: ClassVar[str] = "segmentation"
    metric_names: ClassVar[Mapping[str, str]] = {"mIoU": "mIoU", "mF1": "mF1", "OA": "OA"}
    primary_metric: ClassVar[str] = "mIoU"
    writers: ClassVar[Mapping[str, Writer]] = {"png": write_png, "json": write_json}
    servers: ClassVar[tuple[str, ...]] = ("LoveDA", "UAVid")
    map_type: ClassVar[type[SceneMap]] = SegmentationMap

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return what mmseg's loading steps would have left: the crop, and no labels yet."""
        return {**super().window_input(crops), "seg_fields": []}

    def prepare_config(self, cfg: Any, request: RunRequest) -> None:
        """Let test and prediction see several views of each image where the user asks for it.

        Merging windows or views needs logits, training and test alone do not: see
        :class:`~rsfoundation.models.segmentors.encoder_decoder.EncoderDecoder`.
        """
        model: Any = cfg.get("model") or {}
        if model.get("type") == "rsfoundation.EncoderDecoder":
            keep = request.stage == "predict" or request.tta or bool(cfg.get("use_tta"))
            model.test_cfg = {**(model.get("test_cfg") or {}), "keep_logits": keep}
        if request.format_only and request.stage == "test":
            _use_submission(cfg, request)
            request = replace(request, format_only=False)
        if request.tta and request.stage != "train":
            use_segmentation_tta(cfg, adapters_merged=request.stage == "predict")
            request = replace(request, tta=False)
        super().prepare_config(cfg, request)

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

    def sample_error(self, sample: BaseDataElement) -> float:
        """Return the share of labelled pixels with another class."""
        return 1 - _agreement(plane(sample, "gt_sem_seg"), plane(sample, "pred_sem_seg"))

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

    def read_region(self, sample: BaseDataElement) -> np.ndarray | None:
        """Return the window of a patch as RGB; ``None`` where the sample is a whole image."""
        window = sample.metainfo.get("window")
        if window is None:
            return None
        left, top, side = window
        with RasterReader(sample.metainfo["img_path"]) as reader:
            reader.bands = reader.bands[:3] if len(reader.bands) >= 3 else reader.bands[:1]
            part = reader.read(Window(left, top, side, side))
            scale = None if part.dtype == np.uint8 else found_range(reader)
        if scale is not None:
            part = np.rint(PixelRange((scale[0],), (max(scale[1], scale[0] + 1),)).apply(part))
        picture = np.zeros((side, side, 3), np.uint8)
        picture[: part.shape[0], : part.shape[1]] = part
        return picture

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write ``evaluation/`` with all metrics and the confusion matrix; name the archives written."""
        archives = [metric.archive for metric in metrics if isinstance(metric, LabelMapSubmission)]
        written = [archive.path for archive in archives if archive is not None]
        measured = [metric for metric in metrics if not isinstance(metric, LabelMapSubmission)]
        return [*written, *write_label_map_reports(measured, folder)]

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> SegDataSample | None:
        """Read the colour-coded mask next to an image of ``img_dir``; ``None`` where there is none."""
        return find_mask(paths[0], classes)
