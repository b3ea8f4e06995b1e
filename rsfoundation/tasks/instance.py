"""What instance segmentation declares to engine, inference and console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.core.task import (
    ChecksData,
    Classes,
    Draws,
    Evaluates,
    MergeOptions,
    PredictsScenes,
    RunRequest,
    Task,
    Writer,
)
from rsfoundation.evaluation.average_precision import unmatched_share
from rsfoundation.geometry.masks import CroppedMask
from rsfoundation.inference.instances import (
    InstanceMasks,
    MaskMerger,
    pack_masks,
    unpack_masks,
    write_coco,
    write_json,
    write_png,
)
from rsfoundation.io.coco import Content, decode_mask, read_coco
from rsfoundation.io.vectors import Features
from rsfoundation.registry import TASKS
from rsfoundation.visualization import (
    Colour,
    add_legend,
    class_entries,
    draw_tags,
    magnification,
    magnify,
    overlay_masks,
    side_by_side,
)

_ROOM_FOR_TAGS = 60  # more tags than this hide the objects; the legend still names the colours
_MARGIN = 3  # pixels around a mask, for its outline


def draw_instances(
    image: np.ndarray, result: InstanceMasks, classes: Classes, with_score: bool = True
) -> np.ndarray:
    """Return the image, enlarged when it is small, with tinted masks and their class names.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        result: Objects in pixels of the image.
        classes: Names and colours.
        with_score: Whether the score follows the name.
    """
    factor = magnification(image)
    canvas = magnify(image, factor).copy()
    colours = [classes.palette[label] for label in result.labels]
    for mask, colour in zip(result.masks, colours, strict=True):
        _tint(canvas, mask, factor, colour)
    if not 0 < len(colours) <= _ROOM_FOR_TAGS:
        return canvas
    names = [classes.names[label] for label in result.labels]
    scored = [f"{name} {score:.2f}" for name, score in zip(names, result.scores, strict=True)]
    corners = np.array([(mask.left, mask.top) for mask in result.masks]) * factor
    return draw_tags(canvas, scored if with_score else names, corners, colours)


def _tint(canvas: np.ndarray, mask: CroppedMask, factor: float, colour: Colour) -> None:
    """Draw one mask into the canvas, touching only the part of it around the mask."""
    left, top = round(mask.left * factor), round(mask.top * factor)
    size = (round(mask.right * factor) - left, round(mask.bottom * factor) - top)
    bitmap = cv2.resize(mask.bitmap.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    padded = np.pad(bitmap, _MARGIN)
    height, width = canvas.shape[:2]
    rows = slice(max(0, top - _MARGIN), min(height, top + size[1] + _MARGIN))
    columns = slice(max(0, left - _MARGIN), min(width, left + size[0] + _MARGIN))
    inside = padded[
        rows.start - top + _MARGIN : rows.stop - top + _MARGIN,
        columns.start - left + _MARGIN : columns.stop - left + _MARGIN,
    ]
    canvas[rows, columns] = overlay_masks(canvas[rows, columns], inside[None], [colour])


def find_coco_truth(image: Path, classes: Classes) -> DetDataSample | None:
    """Read what ``<root>/annotations/*.json`` says of ``<root>/<split>/<image>``.

    The file called ``*_<split>.json`` is asked; where there is none, all are, and the image must be in
    one of them only. Crowds and objects of classes that the model does not know are left out.

    Args:
        image: The image file.
        classes: Names and colours of the classes.

    Returns:
        A sample with ``gt_instances.masks`` and ``labels``; None where no truth is found, or all of it is of
        other classes, as for the objects of prompts.
    """
    files = sorted((image.parent.parent / "annotations").glob("*.json"))
    of_split = [file for file in files if file.stem.endswith(f"_{image.parent.name}")]
    found = [hit for file in of_split or files if (hit := _entry(file, image.name)) is not None]
    if len(found) != 1:
        return None
    content, entry = found[0]
    height, width = entry["height"], entry["width"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    if not set(names.values()) & set(classes.names):
        return None
    objects = [
        (classes.names.index(names[item["category_id"]]), decode_mask(item["segmentation"], height, width))
        for item in content["annotations"]
        if item["image_id"] == entry["id"]
        and names[item["category_id"]] in classes.names
        and not item.get("iscrowd")
    ]
    masks = np.array([mask for _, mask in objects], np.uint8).reshape(-1, height, width)
    labels = torch.tensor([label for label, _ in objects], dtype=torch.long)
    return DetDataSample(gt_instances=InstanceData(masks=BitmapMasks(masks, height, width), labels=labels))


def _entry(file: Path, name: str) -> tuple[Content, dict[str, Any]] | None:
    """Return a COCO file's content and its entry of an image, or None when it has none."""
    try:
        content = read_coco(file, DatasetReport())
    except DataError:
        return None  # some other json: a prediction needs no truth
    hits = [item for item in content["images"] if Path(item["file_name"]).name == name]
    return (content, hits[0]) if hits else None


_SHOWN = 0.3  # score from which a comparison shows an object
_METRICS = {"mAP": "mAP", "mAP_50": "mAP50", "mAP_75": "mAP75"}  # of CocoMetric, and unified


@TASKS.register_module()
class InstanceSegmentation(Task, Evaluates, Draws, PredictsScenes, ChecksData):
    """Objects with upright boxes and masks.

    Args:
        same_object: Overlap from which the masks of two windows are one object, see
            :class:`~rsfoundation.inference.instances.MaskMerger`.
    """

    name: ClassVar[str] = "instance"
    metric_names: ClassVar[Mapping[str, str]] = {
        f"coco/{kind}_{theirs}": f"{kind}_{ours}"
        for kind in ("segm", "bbox")
        for theirs, ours in _METRICS.items()
    }
    primary_metric: ClassVar[str] = "segm_mAP"
    writers: ClassVar[Mapping[str, Writer]] = {"json": write_json, "png": write_png}
    more_writers: ClassVar[Mapping[str, Writer]] = {"coco": write_coco}

    def __init__(self, same_object: float = 0.5) -> None:
        self.same_object = same_object

    def prepare_config(self, cfg: Any, request: RunRequest) -> None:
        """Let COCO's metrics read the annotations as the data set does: by the same rules, from its file."""
        super().prepare_config(cfg, request)
        for stage in {"train": ("val",), "test": ("test",)}.get(request.stage, ()):
            evaluate_on_dataset(cfg, stage)

    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> MaskMerger:
        """Return an empty merger for a scene."""
        return MaskMerger(height, width, classes, score_threshold, self.same_object, options.class_agnostic)

    def pack_prediction(self, sample: BaseDataElement, score_threshold: float) -> dict[str, np.ndarray]:
        """Return masks, as bits inside their bounding boxes, scores and labels above the threshold."""
        return pack_masks(sample, score_threshold)

    def unpack_prediction(self, arrays: Mapping[str, np.ndarray]) -> DetDataSample:
        """Return a sample with the packed objects."""
        return unpack_masks(arrays)

    def features(self, result: InstanceMasks, classes: Classes) -> Features:
        """Return the masks as polygons with class and score."""
        return result.features()

    def shrunk(self, result: InstanceMasks, height: int, width: int) -> InstanceMasks:
        """Return the masks in the pixels of an overview."""
        return result.scaled(height, width)

    def draw_result(
        self, images: Sequence[np.ndarray], result: InstanceMasks, classes: Classes
    ) -> np.ndarray:
        """Draw the masks over the scene, with a legend of the classes found."""
        return add_legend(draw_instances(images[0], result, classes), class_entries(classes, result.labels))

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw the ground truth of a sample over its image, with a legend."""
        truth = _collect(_detection(sample).get("gt_instances"), images[0], classes)
        picture = draw_instances(images[0], truth, classes, with_score=False)
        return add_legend(picture, class_entries(classes, truth.labels))

    def sample_error(self, sample: BaseDataElement) -> float:
        """Return 1 - F1 of the masks with a score of 0.3 or more, matched at an IoU of 0.5."""
        truth, found = (_objects(_detection(sample).get(f"{kind}_instances")) for kind in ("gt", "pred"))
        found = sorted((one for one in found if one[1] >= _SHOWN), key=lambda one: -one[1])
        overlaps = np.zeros((len(found), len(truth)))
        for row, (mask, _, label) in enumerate(found):
            for column, (other, _, true_label) in enumerate(truth):
                both = np.logical_and(mask, other).sum() if label == true_label else 0
                overlaps[row, column] = both / max(1, np.logical_or(mask, other).sum()) if both else 0
        return unmatched_share(overlaps)

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
        return add_legend(side_by_side(panels), class_entries(classes, truth.labels, found.labels))

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> DetDataSample | None:
        """Read the truth of ``<root>/<split>/<name>`` from ``<root>/annotations``; None if there is none."""
        return find_coco_truth(paths[0], classes)


def evaluate_on_dataset(cfg: Any, stage: str) -> None:
    """Give COCO's metrics the annotation file of the data set they are computed on.

    Args:
        cfg: The config, changed in place.
        stage: ``val`` or ``test``.

    Raises:
        ConfigError: An evaluator names another file.
    """
    dataset = (cfg.get(f"{stage}_dataloader") or {}).get("dataset") or {}
    if not dataset.get("ann_file"):
        return
    own = Path(dataset.get("data_root") or "") / dataset["ann_file"]
    evaluators = cfg.get(f"{stage}_evaluator") or []
    for one in evaluators if isinstance(evaluators, list) else [evaluators]:
        if str(one.get("type")).rpartition(".")[2] != "CocoMetric":
            continue
        stated = one.get("ann_file")
        if stated is not None and Path(stated).resolve() != own.resolve():
            raise ConfigError(
                f"the evaluator reads the annotations {stated}, and the data set reads {own}",
                where=f"{stage}_evaluator.ann_file and {stage}_dataloader.dataset.ann_file",
                fix=f"leave ann_file out of {stage}_evaluator: it takes that of the data set",
            )
        one.update(type="rsfoundation.CocoMetric", ann_file=str(own))


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
