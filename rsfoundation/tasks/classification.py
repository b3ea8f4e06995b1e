"""What scene recognition declares to engine, inference and console; scenes become maps of tiles."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import shapely
import torch
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from rsfoundation.core.task import (
    ChecksData,
    Classes,
    Draws,
    Evaluates,
    MergeOptions,
    PredictsScenes,
    Task,
    Window,
    WindowCores,
    Writer,
)
from rsfoundation.evaluation.classification import write_scene_reports
from rsfoundation.io.vectors import Features
from rsfoundation.registry import TASKS
from rsfoundation.visualization import add_legend, class_entries, magnification, magnify, overlay_classes

_UNSURE = "none"  # class of a tile none of whose classes reaches the threshold


@dataclass(frozen=True)
class SceneTiles:
    """Class scores of tiles that cover a scene without overlap.

    Attributes:
        boxes: ``(N, 4)`` ``x1 y1 x2 y2`` in pixel edges of the scene.
        scores: ``(N, C)``.
        names: Of the classes.
        size: Height and width of the scene.
        threshold: Least score of a class, where tiles have any number of them; ``None`` where each has one.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    names: tuple[str, ...]
    size: tuple[int, int]
    threshold: float | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The best class of each tile ``(N,)``."""
        return self.scores.argmax(axis=1)

    def classes_of(self, index: int) -> list[str]:
        """Return the names of the classes of a tile, the best first."""
        order = np.argsort(-self.scores[index], kind="stable")
        if self.threshold is None:
            return [self.names[order[0]]]
        return [self.names[label] for label in order if self.scores[index, label] >= self.threshold]

    def centres(self) -> NDArray[np.float64]:
        """Return the centre ``(N, 2)`` of each tile in pixel edges."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def take(self, index: NDArray) -> SceneTiles:
        """Return some of the tiles, by position or by booleans ``(N,)``."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index])

    def summary(self) -> dict[str, int | float | str]:
        """Return class and score of a single tile, else the number of tiles of each class."""
        if len(self.boxes) == 1:
            found = self.classes_of(0)
            return {"class": ", ".join(found) or _UNSURE, "score": round(float(self.scores[0].max()), 4)}
        counts = Counter(name for index in range(len(self.boxes)) for name in self.classes_of(index))
        return {"tiles": len(self.boxes), **{name: counts[name] for name in self.names if counts[name]}}


class SceneTileAccumulator:
    """Collects the scores of windows; tiles are the cores of the windows.

    Args:
        height: Of the scene in pixels.
        width: Of the scene in pixels.
        names: Of the classes.
        threshold: As for :class:`SceneTiles`.
        grid: The windows of the scene; without, tiles are whole windows.
    """

    def __init__(
        self,
        height: int,
        width: int,
        names: tuple[str, ...],
        threshold: float | None,
        grid: WindowCores | None,
    ) -> None:
        self.height, self.width, self.names = height, width, names
        self.threshold, self.grid = threshold, grid
        self._windows: list[Window] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take the scores of one window.

        Args:
            window: In scene pixels.
            sample: With ``pred_score``.
        """
        self._windows.append(window)
        self._scores.append(sample.pred_score.float().cpu().numpy())

    def result(self) -> SceneTiles:
        """Return the tiles, in the order of the windows."""
        windows = self._windows
        if self.grid is not None:
            boxes = self.grid.cores(windows)
        else:
            boxes = np.array(
                [(one.left, one.top, one.left + one.width, one.top + one.height) for one in windows], float
            ).reshape(-1, 4)
        limits = (self.width, self.height, self.width, self.height)
        scores = np.array(self._scores, np.float32).reshape(len(windows), len(self.names))
        size = (self.height, self.width)
        return SceneTiles(np.clip(boxes, 0, limits), scores, self.names, size, self.threshold)


def tile_features(tiles: SceneTiles) -> Features:
    """Return the tiles as rectangles with class and score; for several classes, their names with commas."""
    names = [", ".join(tiles.classes_of(index)) or _UNSURE for index in range(len(tiles.boxes))]
    best = tiles.scores.max(axis=1, initial=0.0)
    columns = {"class": np.array(names, dtype=object), "score": np.round(best.astype(np.float64), 6)}
    return Features(np.asarray(shapely.box(*tiles.boxes.T)), columns)


def write_tile_json(tiles: SceneTiles, path: Path) -> None:
    """Write ``{"classes": [...], "tiles": [{"box", "class", "scores"}, ...]}``; boxes in pixel edges.

    Args:
        tiles: The result.
        path: The file.
    """
    listed: list[dict[str, Any]] = [
        {
            "box": [float(value) for value in tiles.boxes[index]],
            "class": tiles.classes_of(index) if tiles.threshold is not None else tiles.classes_of(index)[0],
            "scores": [round(float(value), 6) for value in tiles.scores[index]],
        }
        for index in range(len(tiles.boxes))
    ]
    path.write_text(json.dumps({"classes": tiles.names, "tiles": listed}, indent=1) + "\n", encoding="utf-8")


def write_tile_csv(tiles: SceneTiles, path: Path) -> None:
    """Write one line per tile: box, class(es), score of every class.

    Args:
        tiles: The result.
        path: The file.
    """
    header: Sequence[str] = ("x1", "y1", "x2", "y2", "class", *tiles.names)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for index, box in enumerate(tiles.boxes):
            scores = [f"{value:.6f}" for value in tiles.scores[index]]
            table.writerow([*box.tolist(), "|".join(tiles.classes_of(index)), *scores])


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

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Name the class(es) below the image."""
        labels = sample.gt_label.tolist()
        entries = [(classes.names[label], classes.palette[label]) for label in labels]
        return _captioned(images[0], entries or [("no class", _WRONG)])

    def sample_error(self, sample: BaseDataElement) -> float:
        """Return 1 - score of the true class; with several classes the share that is judged wrongly."""
        scores = sample.pred_score.float().cpu()
        truth = torch.zeros(len(scores), dtype=torch.bool)
        truth[sample.gt_label.long().cpu()] = True
        if self.multi_label:
            return float(((scores >= 0.5) != truth).float().mean())
        return 1 - float(scores[truth].max()) if truth.any() else 1.0

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
        return add_legend(tinted, class_entries(classes, result.labels))

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
