"""The result of comparing two dates of a scene, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from rsfoundation.core.task import Classes, Window
from rsfoundation.io.label_maps import LabelMap, write_grey_png, write_indexed_png, write_summary

_FLOOR = 1e-3  # weight of a window's outermost pixels: they count only where nothing else covers them


def taper(height: int, width: int) -> np.ndarray:
    """Return the weight of each pixel of a window: 1 in the middle half, falling towards the borders.

    Networks see half of the context at a window's border, so a neighbour that sees all of it decides.

    Returns:
        ``(height, width)`` float32 in ``(0, 1]``.
    """
    return np.outer(_ramp(height), _ramp(width)).astype(np.float32)


def _ramp(length: int) -> np.ndarray:
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.clip(from_border / (length / 4), _FLOOR, 1.0)


class WindowMerge:
    """Averages the probabilities of overlapping windows and keeps the most probable class.

    Only the rows that later windows can still touch are held as scores; rows above them are settled
    and kept as one byte per pixel. Windows must therefore come top down, in rows, as a grid gives them.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Number of classes, at most 255.
    """

    def __init__(self, height: int, width: int, classes: int) -> None:
        self._labels = np.zeros((height, width), dtype=np.uint8)
        self._top = 0
        self._scores = np.zeros((classes, 0, width), dtype=np.float32)

    def add(self, window: Window, probabilities: np.ndarray) -> None:
        """Take the scores of one window.

        Args:
            window: Its place in the scene.
            probabilities: ``(classes, window.height, window.width)``.

        Raises:
            ValueError: The window starts above rows that are settled already, or the shape differs.
        """
        expected = (self._scores.shape[0], window.height, window.width)
        if probabilities.shape != expected:
            raise ValueError(f"expected scores of shape {expected}, got {probabilities.shape}")
        if window.top < self._top:
            raise ValueError(f"row {window.top} comes after row {self._top}: windows must come top down")
        self._settle(window.top)
        self._reach(window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        weighted = probabilities * taper(window.height, window.width)
        self._scores[:, : window.height, columns] += weighted

    def labels(self) -> np.ndarray:
        """Settle what is left and return the class map ``(height, width)`` uint8."""
        self._settle(self._top + self._scores.shape[1])
        return self._labels

    def _settle(self, row: int) -> None:
        """Decide the rows above ``row``. The common weight of a pixel does not move its maximum."""
        done = row - self._top
        if done <= 0:
            return
        decided = self._scores[:, :done]
        if decided.shape[1]:
            self._labels[self._top : self._top + decided.shape[1]] = decided.argmax(axis=0)
        self._scores = self._scores[:, done:].copy()
        self._top = row

    def _reach(self, bottom: int) -> None:
        """Make room for the rows down to ``bottom``."""
        missing = bottom - self._top - self._scores.shape[1]
        if missing > 0:
            self._scores = np.pad(self._scores, ((0, 0), (0, missing), (0, 0)))


class LabelMapAccumulator:
    """Averages the class probabilities of overlapping windows, see :class:`WindowMerge`.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Names and colours.
    """

    def __init__(self, height: int, width: int, classes: Classes) -> None:
        self._merge = WindowMerge(height, width, len(classes.names))
        self._classes = classes

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take ``seg_logits`` of one window."""
        self._merge.add(window, probabilities(sample.seg_logits.data).float().cpu().numpy())

    def result(self) -> LabelMap:
        """Return the class map of the whole scene."""
        return LabelMap(self._merge.labels(), self._classes)


def probabilities(scores: Tensor) -> Tensor:
    """Return class probabilities ``(C, H, W)`` of mmseg's ``seg_logits``.

    One channel holds the probability of the second of two classes already; several hold logits.
    """
    if scores.size(0) == 1:
        return torch.cat([1 - scores, scores])
    return scores.softmax(dim=0)


def plane(sample: BaseDataElement, field: str) -> np.ndarray:
    """Return a label map of a sample, such as ``gt_sem_seg``, as ``(H, W)``."""
    return sample.get(field).data[0].cpu().numpy()


@dataclass(frozen=True)
class SegmentationMap(LabelMap):
    """The class map of one scene."""

    def summary(self) -> dict[str, int | float | str]:
        """Return the share of each class that occurs, in per cent of the scene."""
        return {f"{name} %": round(100 * share, 1) for name, share in self.shares().items() if share}


def write_class_png(result: SegmentationMap, path: Path) -> None:
    """Write the class map as a palette PNG: class indices, shown in the classes' colours."""
    write_indexed_png(result.labels, result.classes.palette, path)


def write_class_json(result: SegmentationMap, path: Path) -> None:
    """Write size and area of each class: pixels, and share of the scene in 0..1."""
    height, width = result.labels.shape
    areas, shares = result.areas(), result.shares()
    classes = {name: {"pixels": areas[name], "share": shares[name]} for name in result.classes.names}
    write_summary({"height": height, "width": width, "classes": classes}, path)


@dataclass(frozen=True)
class ChangeMap(LabelMap):
    """The change map of one scene: label 0 unchanged, 1 changed."""

    def summary(self) -> dict[str, int | float | str]:
        """Return how much of the scene changed."""
        changed = int(np.count_nonzero(self.labels))
        return {"changed pixels": changed, "changed %": round(100 * changed / self.labels.size, 2)}


def write_change_png(result: ChangeMap, path: Path) -> None:
    """Write the map as the public data sets do: 0 unchanged, 255 changed."""
    write_grey_png(np.where(result.labels != 0, 255, 0).astype(np.uint8), path)


def write_change_json(result: ChangeMap, path: Path) -> None:
    """Write size, changed pixels, and their share of the scene in 0..1."""
    height, width = result.labels.shape
    changed = int(np.count_nonzero(result.labels))
    content = {"height": height, "width": width, "changed_pixels": changed}
    write_summary({**content, "changed_share": changed / result.labels.size}, path)
