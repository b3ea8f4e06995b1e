"""Merging the masks of overlapping windows in scene pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import shapely
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Classes, Window
from rsfoundation.geometry.masks import CroppedMask, common_region
from rsfoundation.inference.oriented import count_objects, write_coco_file, write_object_json
from rsfoundation.inference.polygons import mask_polygon
from rsfoundation.io.vectors import Features, class_columns

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

    def centres(self) -> np.ndarray:
        """Centres ``(N, 2)`` of the bounding boxes in pixel edges of the scene."""
        boxes = np.array([mask.box for mask in self.masks], dtype=np.float64).reshape(-1, 4)
        return boxes[:, :2] + boxes[:, 2:] / 2

    def take(self, index: np.ndarray) -> InstanceMasks:
        """Return some of the objects.

        Args:
            index: Positions, or booleans ``(N,)``.
        """
        chosen = np.arange(len(self.masks))[index]
        return replace(
            self,
            masks=tuple(self.masks[place] for place in chosen),
            scores=self.scores[chosen],
            labels=self.labels[chosen],
        )

    def scaled(self, height: int, width: int) -> InstanceMasks:
        """Return the masks in the pixels of an overview; each keeps at least one pixel.

        Args:
            height: Of the overview.
            width: Of the overview.
        """
        if (height, width) == (self.height, self.width):
            return self
        masks = tuple(_shrink(mask, height / self.height, width / self.width) for mask in self.masks)
        return replace(self, height=height, width=width, masks=masks)

    def features(self) -> Features:
        """Return the objects as polygons with class, label and score."""
        polygons = np.empty(len(self.masks), dtype=object)
        polygons[:] = [mask_polygon(mask.bitmap, mask.left, mask.top) for mask in self.masks]
        columns = {**class_columns(self.names, self.labels), "score": self.scores.astype(float)}
        return Features(polygons, columns)

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        return count_objects(self.labels, self.names)


def write_json(result: InstanceMasks, path: Path) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", "bbox", "segmentation"}, ...]}``.

    ``bbox`` is COCO's ``[x, y, width, height]`` and ``segmentation`` COCO's compressed run lengths, both
    in pixels of the scene.

    Args:
        result: Objects of a scene.
        path: The file to write.
    """
    shapes = [
        {"bbox": list(mask.box), "segmentation": mask.rle(result.height, result.width)}
        for mask in result.masks
    ]
    write_object_json(path, result, shapes)


def write_png(result: InstanceMasks, path: Path) -> None:
    """Write a 16-bit map: 0 where there is no object, else the place of the object in the json file + 1.

    Where objects overlap, the one with the better score is seen.

    Args:
        result: Objects of a scene.
        path: The file to write.

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


def write_coco(result: InstanceMasks, path: Path) -> None:
    """Write COCO's annotation layout: run lengths as ``segmentation``, ``bbox``, ``area`` and the score.

    Args:
        result: Objects of a scene.
        path: The file to write.
    """
    shapes = [
        {
            "segmentation": mask.rle(result.height, result.width),
            "bbox": list(mask.box),
            "area": int(mask.bitmap.sum()),
        }
        for mask in result.masks
    ]
    write_coco_file(path, result, shapes, (result.height, result.width))


def _shrink(mask: CroppedMask, down: float, across: float) -> CroppedMask:
    left, top = int(mask.left * across), int(mask.top * down)
    size = (max(1, round(mask.bitmap.shape[1] * across)), max(1, round(mask.bitmap.shape[0] * down)))
    small = cv2.resize(mask.bitmap.astype(np.uint8), size, interpolation=cv2.INTER_AREA).astype(bool)
    return CroppedMask.cut_out(small, left, top) or CroppedMask(left, top, np.ones((1, 1), dtype=bool))


def pack_masks(sample: DetDataSample, score_threshold: float) -> dict[str, np.ndarray]:
    """Return the objects of a window as arrays: masks as bits inside their bounding boxes.

    Args:
        sample: In window pixels.
        score_threshold: Objects below it are left out.
    """
    found = sample.pred_instances
    scores = found.scores.detach().cpu().numpy()
    masks = np.asarray(found.masks.cpu())
    taken, cropped = [], []
    for index in np.flatnonzero(scores.astype(np.float64) >= score_threshold):
        mask = CroppedMask.cut_out(masks[index])
        if mask is not None:
            taken.append(index)
            cropped.append(mask)
    bits = [np.packbits(mask.bitmap) for mask in cropped]
    return {
        "size": np.array(masks.shape[1:]),
        "boxes": np.array([mask.box for mask in cropped], dtype=np.int64).reshape(-1, 4),
        "bits": np.concatenate(bits) if bits else np.zeros(0, np.uint8),
        "scores": scores[taken],
        "labels": found.labels.cpu().numpy()[taken],
    }


def unpack_masks(arrays: Mapping[str, np.ndarray]) -> DetDataSample:
    """Return a sample with the objects that :func:`pack_masks` packed."""
    height, width = arrays["size"].tolist()
    boxes = arrays["boxes"]
    masks = np.zeros((len(boxes), height, width), dtype=bool)
    place = 0
    for mask, (left, top, wide, high) in zip(masks, boxes.tolist(), strict=True):
        count = -(-wide * high // 8)
        bits = np.unpackbits(arrays["bits"][place : place + count], count=wide * high)
        mask[top : top + high, left : left + wide] = bits.reshape(high, wide).astype(bool)
        place += count
    instances = InstanceData(
        masks=torch.from_numpy(masks),
        scores=torch.from_numpy(arrays["scores"]),
        labels=torch.from_numpy(arrays["labels"]),
    )
    return DetDataSample(pred_instances=instances)


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
        class_agnostic: Views of different classes may be one object; the class of the best view counts.
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        same_object: float = 0.5,
        class_agnostic: bool = False,
    ) -> None:
        self.class_agnostic = class_agnostic
        self.height, self.width = height, width
        self.classes = classes
        self.score_threshold = score_threshold
        self.same_object = same_object
        self._views: list[_View] = []

    def add(self, window: Window, sample: DetDataSample) -> None:
        """Take the prediction of one window; its masks ``(N, h, w)`` are window pixels.

        Args:
            window: Place of the window in the scene, in scene pixels.
            sample: Data sample with ``pred_instances``.
        """
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
            and (self.class_agnostic or self._views[one].label == self._views[other].label)
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
