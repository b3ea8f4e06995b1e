"""Class maps of scenes: merging windows of probabilities, results, and their files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from rsfoundation.core.files import write_json
from rsfoundation.core.task import Classes, ClassScores, MergeOptions, PredictsMaps, Window
from rsfoundation.inference.window_merge import WindowMerge
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.label_maps import LabelMap, write_indexed_png
from rsfoundation.io.png import write_png

_Map = TypeVar("_Map", bound="SceneMap")


def probabilities(scores: Tensor) -> Tensor:
    """Return class probabilities ``(C, H, W)`` of mmseg's ``seg_logits``.

    One channel holds the probability of the second of two classes already; several hold logits.
    """
    if scores.size(0) == 1:
        return torch.cat([1 - scores, scores])
    return scores.softmax(dim=0)


def class_scores(sample: BaseDataElement) -> ClassScores:
    """Return the scores of a window: logits where this processor has them, else probabilities.

    The merge takes the softmax of a few rows at a time, which stay in the processor's cache. On a GPU the
    softmax costs nothing.

    Args:
        sample: With ``seg_logits``.
    """
    scores = sample.seg_logits.data
    if scores.size(0) > 1 and scores.device.type == "cpu":
        return ClassScores(scores.float().numpy(), True)
    return ClassScores(probabilities(scores).float().cpu().numpy(), False)


def plane(sample: BaseDataElement, field: str) -> np.ndarray:
    """Return a label map of a sample, such as ``gt_sem_seg``, as ``(H, W)``.

    Args:
        sample: The data sample.
        field: Name of its field.
    """
    return sample.get(field).data[0].cpu().numpy()


@dataclass(frozen=True)
class SceneMap(LabelMap, ABC):
    """The labels of one scene; 255 is no data."""

    def in_memory(self: _Map) -> _Map:
        """Return the same map as an array."""
        return replace(self, labels=np.asarray(self.labels[0 : self.labels.shape[0]]))

    def shrunk(self: _Map, height: int, width: int) -> _Map:
        """Return the map in fewer pixels, each with the label of its nearest one.

        Args:
            height: Rows of the smaller map.
            width: Columns of the smaller map.
        """
        full_height, full_width = self.labels.shape
        if (height, width) == (full_height, full_width):
            return self.in_memory()
        rows = ((np.arange(height) + 0.5) * full_height / height).astype(int)
        columns = ((np.arange(width) + 0.5) * full_width / width).astype(int)
        small = np.stack([np.asarray(self.labels[row : row + 1])[0, columns] for row in rows])
        return replace(self, labels=small)

    def areas_m2(self, reference: GeoReference) -> dict[str, float]:
        """Return the area on the ground of each class that occurs, by the mean size of a pixel.

        Args:
            reference: Of the map; without a ground sampling distance the result is empty.
        """
        distance = reference.ground_sampling_distance
        if distance is None:
            return {}
        return {name: area * distance[0] * distance[1] for name, area in self.areas().items() if area}

    @abstractmethod
    def summary(self) -> dict[str, int | float | str]:
        """Return the few numbers that the console prints."""


class LabelMapAccumulator:
    """Averages the class probabilities of overlapping windows in memory, see :class:`WindowMerge`.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Names and colours.
        kind: Class of the result.
    """

    def __init__(self, height: int, width: int, classes: Classes, kind: type[SceneMap]) -> None:
        self._merge = WindowMerge(height, width, len(classes.names))
        self._classes, self._kind = classes, kind

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take ``seg_logits`` of one window.

        Args:
            window: Place of the window in the scene, in scene pixels.
            sample: Data sample with ``seg_logits``.
        """
        scores = class_scores(sample)
        self._merge.add(window, scores.values, are_logits=scores.are_logits)

    def result(self) -> SceneMap:
        """Return the map of the whole scene."""
        return self._kind(self._merge.labels(), self._classes)


class PredictsLabelMaps(PredictsMaps):
    """Predicts maps from mmseg's ``seg_logits``: the most probable class of each pixel.

    Attributes:
        map_type: Class of the results.
    """

    map_type: ClassVar[type[SceneMap]]

    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> LabelMapAccumulator:
        """Return an empty map; the threshold has no meaning for classes that fill the scene."""
        return LabelMapAccumulator(height, width, classes, self.map_type)

    def class_scores(self, sample: BaseDataElement) -> ClassScores:
        """Return the scores of one window."""
        return class_scores(sample)

    def map_result(self, labels: Any, classes: Classes) -> SceneMap:
        """Return the map."""
        return self.map_type(labels, classes)

    def shrunk(self, result: SceneMap, height: int, width: int) -> SceneMap:
        """Return the map in the pixels of an overview."""
        return result.shrunk(height, width)


@dataclass(frozen=True)
class SegmentationMap(SceneMap):
    """The class map of one scene."""

    def summary(self) -> dict[str, int | float | str]:
        """Return the share of each class that occurs, in per cent of the pixels with data."""
        return {f"{name} %": round(100 * share, 1) for name, share in self.shares().items() if share}


def write_class_png(result: SegmentationMap, path: Path) -> None:
    """Write the class map as a palette PNG: class indices, shown in the classes' colours.

    Args:
        result: Class map of a scene.
        path: The file to write.
    """
    write_indexed_png(result.labels, result.classes.palette, path)


def write_class_json(result: SegmentationMap, path: Path) -> None:
    """Write size and area of each class: pixels, and share of the pixels with data in 0..1.

    Args:
        result: Class map of a scene.
        path: The file to write.
    """
    height, width = result.labels.shape
    areas, shares = result.areas(), result.shares()
    classes = {name: {"pixels": areas[name], "share": shares[name]} for name in result.classes.names}
    write_json(path, {"height": height, "width": width, "classes": classes})


@dataclass(frozen=True)
class ChangeMap(SceneMap):
    """The change map of one scene: label 0 unchanged, 1 changed."""

    def changed(self) -> tuple[int, float]:
        """Return the number of changed pixels, and their share of the pixels with data in 0..1."""
        areas = list(self.areas().values())
        return sum(areas[1:]), sum(areas[1:]) / max(1, sum(areas))

    def summary(self) -> dict[str, int | float | str]:
        """Return how much of the scene changed."""
        changed, share = self.changed()
        return {"changed pixels": changed, "changed %": round(100 * share, 2)}


def write_change_png(result: ChangeMap, path: Path) -> None:
    """Write the map as the public data sets do: 0 unchanged, 255 changed.

    Args:
        result: Change map of a scene.
        path: The file to write.
    """
    table = np.full(256, 255, dtype=np.uint8)
    table[[0, 255]] = 0
    write_png(result.labels, path, table=table)


def write_change_json(result: ChangeMap, path: Path) -> None:
    """Write size, changed pixels, and their share of the pixels with data in 0..1.

    Args:
        result: Change map of a scene.
        path: The file to write.
    """
    height, width = result.labels.shape
    changed, share = result.changed()
    content = {"height": height, "width": width, "changed_pixels": changed}
    write_json(path, {**content, "changed_share": share})
