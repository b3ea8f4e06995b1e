"""Merging the masks of overlapping windows in scene pixels."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
from mmdet.structures import DetDataSample

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Classes, Window
from rsfoundation.geometry.masks import CroppedMask, common_region

_MOST_IDS = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class InstanceMasks:
    """Objects of one scene, best score first.

    Attributes:
        height: Scene height in pixels.
        width: Scene width in pixels.
        masks: One mask per object, in scene pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
    """

    height: int
    width: int
    masks: tuple[CroppedMask, ...]
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        found = {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}
        return {"objects": len(self.masks), **found}


def write_json(result: InstanceMasks, path: Path) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", "bbox", "segmentation"}, ...]}``.

    ``bbox`` is COCO's ``[x, y, width, height]`` and ``segmentation`` COCO's compressed run lengths, both
    in pixels of the scene.
    """
    objects = [
        {
            "class": result.names[label],
            "label": int(label),
            "score": round(float(score), 6),
            "bbox": list(mask.box),
            "segmentation": mask.rle(result.height, result.width),
        }
        for mask, label, score in zip(result.masks, result.labels, result.scores, strict=True)
    ]
    path.write_text(json.dumps({"classes": list(result.names), "objects": objects}, indent=1) + "\n")


def write_png(result: InstanceMasks, path: Path) -> None:
    """Write a 16-bit map: 0 where there is no object, else the place of the object in the json file + 1.

    Where objects overlap, the one with the better score is seen.

    Raises:
        DataError: There are more objects than 16 bits can number.
    """
    if len(result.masks) > _MOST_IDS:
        raise DataError(
            f"{len(result.masks)} objects do not fit the {_MOST_IDS} numbers of a 16-bit map",
            where=path,
            fix="write json, or raise the score threshold",
        )
    ids = np.zeros((result.height, result.width), dtype=np.uint16)
    for number in range(len(result.masks), 0, -1):
        mask = result.masks[number - 1]
        ids[mask.top : mask.bottom, mask.left : mask.right][mask.bitmap] = number
    path.write_bytes(cv2.imencode(".png", ids)[1].tobytes())


@dataclass(frozen=True)
class _View:
    """What one window saw of an object."""

    mask: CroppedMask
    label: int
    score: float
    window: Window
    cut: bool  # touches a window border that has scene beyond it


class MaskMerger:
    """Collects window masks and makes one object of what neighbouring windows saw of it.

    Two views of one class from two windows belong together when, inside the rectangle that both windows
    saw, they share at least ``same_object`` of the smaller one. An object's mask is the best whole view
    of it together with its cut ones (an object larger than the overlap has only those); its score is the
    best of its views. Predictions whose mask is empty are left out.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Class names.
        score_threshold: Predictions below it are not taken.
        same_object: Intersection over the smaller area from which two views are one object.
    """

    def __init__(
        self, height: int, width: int, classes: Classes, score_threshold: float, same_object: float = 0.5
    ) -> None:
        self.height, self.width = height, width
        self.classes = classes
        self.score_threshold = score_threshold
        self.same_object = same_object
        self._views: list[_View] = []

    def add(self, window: Window, sample: DetDataSample) -> None:
        """Take the prediction of one window; its masks ``(N, h, w)`` are window pixels."""
        found = sample.pred_instances
        scores = found.scores.detach().cpu().numpy().astype(np.float64)
        labels, masks = found.labels.cpu().numpy(), np.asarray(found.masks.cpu())
        for index in np.flatnonzero(scores >= self.score_threshold):
            mask = CroppedMask.cut_out(masks[index], window.left, window.top)
            if mask is not None:
                cut = self._is_cut(mask, window)
                self._views.append(_View(mask, int(labels[index]), float(scores[index]), window, cut))

    def result(self) -> InstanceMasks:
        """Merge what was added."""
        merged = [_combine([self._views[index] for index in group]) for group in self._groups()]
        merged.sort(key=lambda view: -view.score)
        return InstanceMasks(
            self.height,
            self.width,
            tuple(view.mask for view in merged),
            np.array([view.score for view in merged]),
            np.array([view.label for view in merged], dtype=int),
            self.classes.names,
        )

    def _is_cut(self, mask: CroppedMask, window: Window) -> bool:
        right, bottom = window.left + window.width, window.top + window.height
        return (
            (mask.left == window.left > 0)
            or (mask.top == window.top > 0)
            or (mask.right == right < self.width)
            or (mask.bottom == bottom < self.height)
        )

    def _groups(self) -> list[list[int]]:
        """Return the indices of the views of each object, in the order of their first views."""
        root = list(range(len(self._views)))

        def find(index: int) -> int:
            while root[index] != index:
                root[index] = root[root[index]]
                index = root[index]
            return index

        for one, other in self._neighbours():
            if self._belong_together(self._views[one], self._views[other]):
                first, second = sorted((find(one), find(other)))
                root[second] = first
        groups: dict[int, list[int]] = {}
        for index in range(len(self._views)):
            groups.setdefault(find(index), []).append(index)
        return list(groups.values())

    def _neighbours(self) -> list[tuple[int, int]]:
        """Return pairs of views of one class from two windows whose boxes meet."""
        masks = [view.mask for view in self._views]
        boxes = shapely.box(
            [mask.left for mask in masks],
            [mask.top for mask in masks],
            [mask.right for mask in masks],
            [mask.bottom for mask in masks],
        )
        pairs = shapely.STRtree(boxes).query(boxes, predicate="intersects").T.tolist()
        return sorted(
            (one, other)
            for one, other in pairs
            if one < other
            and self._views[one].label == self._views[other].label
            and self._views[one].window != self._views[other].window
        )

    def _belong_together(self, one: _View, other: _View) -> bool:
        shared = common_region(one.window, other.window)
        if shared is None:
            return False
        smaller = min(int(one.mask.within(shared).sum()), int(other.mask.within(shared).sum()))
        return smaller > 0 and one.mask.intersection(other.mask) >= self.same_object * smaller


def _combine(views: list[_View]) -> _View:
    """Make one object of its views."""
    best = max(views, key=lambda view: view.score)
    whole = [view for view in views if not view.cut]
    parts = [view.mask for view in views if view.cut]
    if whole:
        parts.append(max(whole, key=lambda view: view.score).mask)
    return _View(CroppedMask.union(parts), best.label, best.score, best.window, cut=not whole)
