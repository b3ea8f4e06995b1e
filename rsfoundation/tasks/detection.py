"""What oriented detection declares to engine, inference and console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement, InstanceData

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import (
    ChecksData,
    Classes,
    Draws,
    Evaluates,
    MergeOptions,
    PredictsScenes,
    RunRequest,
    Submits,
    Task,
    Writer,
)
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.engine.model_builder import suppresses_across_classes
from rsfoundation.evaluation.average_precision import unmatched_share
from rsfoundation.evaluation.oriented.image_results import devkit_ignored_difficulty
from rsfoundation.evaluation.oriented.metric import DOTAMetric
from rsfoundation.evaluation.oriented.report import write_report
from rsfoundation.evaluation.pictures import report_folders
from rsfoundation.evaluation.submission.metric import DetectionSubmission
from rsfoundation.geometry.boxes import quad_to_rbox
from rsfoundation.inference.oriented import (
    OrientedBoxes,
    WindowMerger,
    make_result,
    pack_boxes,
    unpack_boxes,
    write_coco,
    write_json,
    write_txt,
)
from rsfoundation.io.dota import find_label, read_dota_txt
from rsfoundation.io.loading import ImageLoading, read_window
from rsfoundation.io.vectors import Features
from rsfoundation.models.detectors.test_time_augmentation import use_tta
from rsfoundation.ops import box_iou_rotated
from rsfoundation.registry import TASKS
from rsfoundation.visualization import (
    add_legend,
    class_entries,
    draw_boxes,
    magnification,
    magnify,
    side_by_side,
)


def prepare_test(cfg: Config, request: RunRequest, merge_iou: float) -> None:
    """Change the config of a detection test.

    Args:
        cfg: The config; changed in place.
        request: What the run is for.
        merge_iou: IoU above which detections of patches are merged.

    Raises:
        ConfigError: Options that do not go together.
    """
    agnostic = suppresses_across_classes(cfg)
    if request.stage == "predict":
        if request.tta:
            use_tta(cfg, merge_iou, adapters_merged=True, class_agnostic=agnostic)
        return
    if request.format_only:
        out = request.out or Path(cfg.work_dir) / "submission"
        cfg.test_evaluator = dict(
            type="rsfoundation.DetectionSubmission",
            out=str(out),
            images=str(request.images) if request.images else None,
            merge_iou=merge_iou,
            class_agnostic=agnostic,
        )
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="rsfoundation.SubmissionCheckHook")]
        _test_on_the_submitted_split(cfg)
    elif request.out or request.images:
        option = "--out" if request.out else "--images"
        raise ConfigError(f"{option} belongs to a submission", where=option, fix="add --format-only")
    else:
        match_labels_to_metric(cfg, "test")
    if request.tta:
        use_tta(cfg, merge_iou, class_agnostic=agnostic)


def match_labels_to_metric(cfg: Config, stage: str) -> None:
    """Let the data set of ``stage`` (``val``, ``test``) hand out the labels that its evaluators count.

    Args:
        cfg: The config; changed in place.
        stage: ``val`` or ``test``.
    """
    evaluators = cfg.get(f"{stage}_evaluator") or []
    for one in evaluators if isinstance(evaluators, list) else [evaluators]:
        dataset: Any = cfg[f"{stage}_dataloader"].dataset
        if str(one.get("type")).endswith("DOTAMetric") and suppresses_across_classes(cfg):
            one.setdefault("class_agnostic", True)
        if one.get("matching") == "devkit":
            _keep_devkit_objects(dataset)
        if one.get("matching") == "devkit" or one.get("full_images") or one.get("full_image_labels"):
            _keep_corners(dataset)


def _test_on_the_submitted_split(cfg: Config) -> None:
    """Replace the labelled split, which metrics come from, by the one that the server has the labels of."""
    wanted = cfg.get("submission")
    if wanted:
        cfg.test_dataloader.dataset.update(wanted)
        settings = ", ".join(f"{name}={value}" for name, value in wanted.items())
        MMLogger.get_current_instance().info("submission: the data set is tested with %s", settings)


def _keep_corners(dataset: Any) -> None:
    """Let labels reach the metric as they are in their files, not as fitted rectangles."""
    dataset.pipeline = [step for step in dataset.pipeline if not str(step["type"]).endswith("ConvertBoxType")]


def _keep_devkit_objects(dataset: Any) -> None:
    """Count all but difficult objects, as DOTA's devkit does, unless the config says otherwise.

    In DOTA 1.5 and 2.0 the devkit counts those, too.
    """
    classes = DOTA_CLASSES.get(dataset.get("version"), ())
    ignored = {"ignore_difficulty": devkit_ignored_difficulty(classes), "min_side": 0.0}
    for name, value in ignored.items():
        if dataset.get(name) is None and value is not None:
            dataset[name] = value
            MMLogger.get_current_instance().info("devkit rules: %s=%g in the data set", name, value)


_SHOWN = 0.3  # score from which a comparison shows a detection


@TASKS.register_module()
class OrientedDetection(Task, Evaluates, Draws, PredictsScenes, ChecksData, Submits):
    """Oriented boxes.

    Args:
        merge_iou: IoU of the NMS that merges windows (DOTA's customary 0.1).
    """

    name: ClassVar[str] = "detection"
    metric_names: ClassVar[Mapping[str, str]] = {"detection/mAP50": "mAP50", "detection/mAP": "mAP"}
    primary_metric: ClassVar[str] = "mAP50"
    servers: ClassVar[tuple[str, ...]] = ("DOTA", "FAIR1M")
    writers: ClassVar[Mapping[str, Writer]] = {"txt": write_txt, "json": write_json}
    more_writers: ClassVar[Mapping[str, Writer]] = {"coco": write_coco}

    def __init__(self, merge_iou: float = 0.1) -> None:
        self.merge_iou = merge_iou

    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> WindowMerger:
        """Return an empty merger for a scene."""
        return WindowMerger(height, width, classes, score_threshold, self.merge_iou, options)

    def pack_prediction(self, sample: BaseDataElement, score_threshold: float) -> dict[str, np.ndarray]:
        """Return boxes, scores and labels above the threshold."""
        return pack_boxes(sample, score_threshold)

    def unpack_prediction(self, arrays: Mapping[str, np.ndarray]) -> DetDataSample:
        """Return a sample with the packed detections."""
        return unpack_boxes(arrays)

    def features(self, result: OrientedBoxes, classes: Classes) -> Features:
        """Return the boxes as polygons with class, score and axes."""
        return result.features()

    def shrunk(self, result: OrientedBoxes, height: int, width: int) -> OrientedBoxes:
        """Return the boxes in the pixels of an overview."""
        return result.scaled(height, width)

    def draw_result(
        self, images: Sequence[np.ndarray], result: OrientedBoxes, classes: Classes
    ) -> np.ndarray:
        """Draw the detections over the scene, with a legend of the classes found."""
        return add_legend(_draw(images[0], result, classes), class_entries(classes, result.labels))

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw the ground truth of a sample, whose boxes are pixels of the image given, with a legend."""
        truth = _from_instances(sample.get("gt_instances"), classes)
        picture = _draw(images[0], truth, classes, with_score=False)
        return add_legend(picture, class_entries(classes, truth.labels))

    def sample_error(self, sample: BaseDataElement) -> float:
        """Return 1 - F1 of the boxes with a score of 0.3 or more, matched at an IoU of 0.5."""
        truth, found = (
            _from_instances(sample.get(f"{k}_instances"), Classes((), ())) for k in ("gt", "pred")
        )
        if not len(truth.labels) or not len(found.labels):
            return unmatched_share(np.zeros((len(found.labels), len(truth.labels))))
        one, two = (torch.from_numpy(result.boxes).float() for result in (found, truth))
        overlaps = box_iou_rotated(one, two).numpy()
        return unmatched_share(overlaps * (found.labels[:, None] == truth.labels[None]))

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw ground truth and prediction of one tested sample side by side."""
        truth = _from_instances(sample.get("gt_instances"), classes)
        found = _from_instances(sample.get("pred_instances"), classes)
        panels = [
            (f"ground truth: {len(truth.labels)}", _draw(images[0], truth, classes, with_score=False)),
            (f"prediction: {len(found.labels)} (score >= {_SHOWN})", _draw(images[0], found, classes)),
        ]
        return add_legend(side_by_side(panels), class_entries(classes, truth.labels, found.labels))

    def read_region(self, sample: BaseDataElement) -> np.ndarray | None:
        """Return the window of a virtual patch."""
        window = sample.metainfo.get("window")
        if window is None:
            return None
        return read_window(ImageLoading().open(sample.metainfo["img_path"]), *window)[..., ::-1]

    def prepare_config(self, cfg: Any, request: RunRequest) -> None:
        """Load labels as the metric needs them; at test also submissions and test-time augmentation."""
        if request.stage == "train":
            match_labels_to_metric(cfg, "val")
        else:
            prepare_test(cfg, request, self.merge_iou)

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write curves and tables to ``evaluation/`` (of a second metric to ``evaluation_2/``, and so on)."""
        archives = [metric.submissions for metric in metrics if isinstance(metric, DetectionSubmission)]
        written = [submission.path for submissions in archives for submission in submissions]
        for evaluation, target in report_folders(metrics, DOTAMetric, folder):
            written += write_report(evaluation, target)
        return written

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> DetDataSample | None:
        """Read the label file that belongs to ``<split>/images/<name>``; ``None`` where there is none.

        Objects of classes that the model does not know are left out.

        Raises:
            DataError: The file has a malformed line; prediction then draws no comparison.
        """
        label = find_label(paths[0])
        if label is None:
            return None
        objects = [item for item in read_dota_txt(label).objects if item.name in classes.names]
        truth = InstanceData(
            bboxes=torch.from_numpy(quad_to_rbox([item.quad for item in objects])),
            labels=torch.tensor([classes.names.index(item.name) for item in objects], dtype=torch.long),
        )
        return DetDataSample(gt_instances=truth)


def _from_instances(instances: InstanceData | None, classes: Classes) -> OrientedBoxes:
    """Take ground truth (scores of 1) or the detections worth showing out of a sample."""
    if instances is None or "bboxes" not in instances:
        return make_result(np.zeros((0, 5)), np.zeros(0), np.zeros(0), classes.names)
    boxes = get_box_tensor(instances.bboxes).detach().cpu().numpy()
    boxes = quad_to_rbox(boxes) if boxes.shape[-1] == 8 else boxes
    labels = instances.labels.cpu().numpy()
    scores = instances.scores.cpu().numpy() if "scores" in instances else np.ones(len(labels))
    shown = scores >= _SHOWN
    return make_result(boxes[shown], scores[shown], labels[shown], classes.names)


def _draw(image: np.ndarray, result: OrientedBoxes, classes: Classes, with_score: bool = True) -> np.ndarray:
    factor = magnification(image)
    names = [classes.names[label] for label in result.labels]
    tags = [f"{name} {score:.2f}" for name, score in zip(names, result.scores, strict=True)]
    colours = [classes.palette[label] for label in result.labels]
    quads = (result.quads + 0.5) * factor - 0.5  # pixel centres are at integers before and after
    return draw_boxes(magnify(image, factor), quads, colours, tags if with_score else names)
