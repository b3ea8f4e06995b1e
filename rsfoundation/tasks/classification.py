"""What scene recognition declares to engine, inference and console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from rsfoundation.core.task import (
    ChecksData,
    Classes,
    Draws,
    Evaluates,
    MergeOptions,
    PredictsScenes,
    Task,
    Writer,
)
from rsfoundation.evaluation.classification import write_scene_reports
from rsfoundation.inference.scene_tiles import (
    SceneTileAccumulator,
    SceneTiles,
    tile_features,
    write_tile_csv,
    write_tile_json,
)
from rsfoundation.io.vectors import Features
from rsfoundation.registry import TASKS
from rsfoundation.visualization import add_legend, magnification, magnify, overlay_classes

_METRICS = ("top1", "top5", "class_mean_accuracy", "macro_f1", "kappa", "mAP", "micro_mAP", "micro_f1")
_SIDE = 320  # of a picture of one image, at least
_RIGHT, _WRONG = (40, 160, 60), (220, 40, 40)


@TASKS.register_module()
class SceneRecognition(Task, Evaluates, Draws, PredictsScenes, ChecksData):
    """One class per image, or any number of them; tiles of larger scenes.

    Args:
        multi_label: Whether images have any number of classes.
    """

    name: ClassVar[str] = "recognition"
    metric_names: ClassVar[Mapping[str, str]] = {name: name for name in _METRICS}
    primary_metric: ClassVar[str] = "top1"
    writers: ClassVar[Mapping[str, Writer]] = {"json": write_tile_json}
    more_writers: ClassVar[Mapping[str, Writer]] = {"csv": write_tile_csv}

    def __init__(self, multi_label: bool = False) -> None:
        self.multi_label = multi_label
        if multi_label:
            self.primary_metric = "mAP"  # type: ignore[misc]  # of this instance

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write ``evaluation/`` with all metrics and the confusion matrix."""
        return write_scene_reports(metrics, folder)

    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the image a sample was read from."""
        return [sample.img_path]

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Name the class(es) below the image."""
        labels = sample.gt_label.tolist()
        entries = [(classes.names[label], classes.palette[label]) for label in labels]
        return _captioned(images[0], entries or [("no class", _WRONG)])

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Name the true class(es) and the predicted ones with their scores below the image."""
        truth = sample.gt_label.tolist() if "gt_label" in sample else []
        scores = sample.pred_score.float().cpu()
        chosen = torch.nonzero(scores >= 0.5).flatten() if self.multi_label else scores.argmax()[None]
        entries = [(f"truth: {classes.names[label]}", classes.palette[label]) for label in truth]
        entries += [
            (f"{classes.names[label]} {float(scores[label]):.2f}", _RIGHT if label in truth else _WRONG)
            for label in chosen.tolist()
        ]
        return _captioned(images[0], entries)

    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> SceneTileAccumulator:
        """Return an empty set of tiles; the threshold counts where tiles have any number of classes."""
        threshold = score_threshold if self.multi_label else None
        return SceneTileAccumulator(height, width, classes.names, threshold, options.grid)

    def pack_prediction(self, sample: BaseDataElement, score_threshold: float) -> dict[str, np.ndarray]:
        """Return the scores of a window."""
        return {"scores": sample.pred_score.float().cpu().numpy()}

    def unpack_prediction(self, arrays: Mapping[str, np.ndarray]) -> BaseDataElement:
        """Return a sample with the scores that were packed."""
        sample = BaseDataElement()
        sample.pred_score = torch.from_numpy(np.asarray(arrays["scores"]))
        return sample

    def features(self, result: SceneTiles, classes: Classes) -> Features:
        """Return the tiles as rectangles with class and score."""
        return tile_features(result)

    def shrunk(self, result: SceneTiles, height: int, width: int) -> SceneTiles:
        """Return the tiles in the pixels of an overview."""
        down, across = height / result.size[0], width / result.size[1]
        return replace(result, boxes=result.boxes * (across, down, across, down), size=(height, width))

    def draw_result(self, images: Sequence[np.ndarray], result: SceneTiles, classes: Classes) -> np.ndarray:
        """Name the class of an image below it, or tint the tiles of a scene."""
        if len(result.boxes) == 1:
            names = result.classes_of(0)
            entries = [(name, classes.palette[classes.names.index(name)]) for name in names]
            return _captioned(images[0], entries or [("no class", _WRONG)])
        labels = np.full(images[0].shape[:2], len(classes.names), np.int64)
        for box, label in zip(np.rint(result.boxes).astype(int), result.labels, strict=True):
            labels[box[1] : box[3], box[0] : box[2]] = label
        tinted = overlay_classes(images[0], labels, classes.palette, opacity=0.4)
        found = sorted(set(result.labels.tolist()))
        return add_legend(tinted, [(classes.names[label], classes.palette[label]) for label in found])

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> BaseDataElement | None:
        """Return the class that the folder of an image is called after; ``None`` where it is none."""
        name = paths[0].absolute().parent.name
        if name not in classes.names:
            return None
        sample = BaseDataElement()
        sample.gt_label = torch.tensor([classes.names.index(name)])
        return sample


def _captioned(image: np.ndarray, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> np.ndarray:
    return add_legend(magnify(image, magnification(image, _SIDE)), list(entries))
