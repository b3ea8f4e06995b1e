"""Merging the detections of overlapping windows in scene pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData

from rsfoundation.core.task import Classes, MergeOptions, Window
from rsfoundation.geometry.boxes import normalise, quad_to_rbox, rbox_to_hbox, rbox_to_quad, shift
from rsfoundation.io.vectors import Features, box_features, class_columns
from rsfoundation.ops import nms_rotated


@dataclass(frozen=True)
class OrientedBoxes:
    """Detections of one scene, best score first.

    Attributes:
        boxes: ``(N, 5)`` le90 boxes in scene pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
        scene_size: Height and width of the scene, where known.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    scene_size: tuple[int, int] | None = None

    @property
    def quads(self) -> np.ndarray:
        """Corners ``(N, 4, 2)`` in scene pixels."""
        return rbox_to_quad(self.boxes)

    def centres(self) -> np.ndarray:
        """Centres ``(N, 2)`` in pixel edges of the scene."""
        return self.boxes[:, :2] + 0.5

    def take(self, index: np.ndarray) -> OrientedBoxes:
        """Return some of the detections.

        Args:
            index: Positions, or booleans ``(N,)``.
        """
        return replace(self, boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index])

    def scaled(self, height: int, width: int) -> OrientedBoxes:
        """Return the boxes in the pixels of an overview.

        Args:
            height: Of the overview.
            width: Of the overview.

        Raises:
            ValueError: The size of the scene is not known.
        """
        if self.scene_size is None:
            raise ValueError("the size of the scene is not known")
        down, across = height / self.scene_size[0], width / self.scene_size[1]
        if (down, across) == (1.0, 1.0):
            return self
        boxes = self.boxes.copy()
        boxes[:, 0] = (boxes[:, 0] + 0.5) * across - 0.5
        boxes[:, 1] = (boxes[:, 1] + 0.5) * down - 0.5
        boxes[:, 2:4] *= np.sqrt(across * down)  # an overview keeps the ratio of the sides to a pixel
        return OrientedBoxes(boxes, self.scores, self.labels, self.names, (height, width))

    def features(self) -> Features:
        """Return the detections as polygons with class, label, score and axes."""
        columns = {**class_columns(self.names, self.labels), "score": self.scores}
        return box_features(long_side_first(self.boxes), columns)

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        return count_objects(self.labels, self.names)


def count_objects(labels: np.ndarray, names: Sequence[str]) -> dict[str, int | float | str]:
    """Return the number of objects, and of those of each class that occurs.

    Args:
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
    """
    counts = np.bincount(labels, minlength=len(names))
    found = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    return {"objects": len(labels), **found}


def make_result(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    names: tuple[str, ...],
    scene_size: tuple[int, int] | None = None,
) -> OrientedBoxes:
    """Bring detections into the order and the angle range of :class:`OrientedBoxes`.

    Args:
        boxes: ``(N, 5)`` in scene pixels.
        scores: ``(N,)``.
        labels: ``(N,)``.
        names: Class names.
        scene_size: Height and width of the scene.
    """
    order = np.argsort(-scores, kind="stable")
    return OrientedBoxes(normalise(boxes)[order], scores[order], labels[order].astype(int), names, scene_size)


def long_side_first(boxes: np.ndarray) -> np.ndarray:
    """Return the same rectangles with ``w >= h``, as a bearing of the long axis needs them."""
    turned = boxes.copy()
    tall = boxes[:, 3] > boxes[:, 2]
    turned[tall, 2], turned[tall, 3] = boxes[tall, 3], boxes[tall, 2]
    turned[tall, 4] += np.pi / 2
    return turned


def pack_boxes(sample: DetDataSample, score_threshold: float) -> dict[str, np.ndarray]:
    """Return the detections of a window as arrays.

    Args:
        sample: In window pixels.
        score_threshold: Detections below it are left out.
    """
    found = sample.pred_instances
    scores = found.scores.detach().cpu().numpy()
    taken = scores.astype(np.float64) >= score_threshold
    boxes = get_box_tensor(found.bboxes).detach().cpu().numpy()[taken]
    return {"boxes": boxes, "scores": scores[taken], "labels": found.labels.cpu().numpy()[taken]}


def unpack_boxes(arrays: Mapping[str, np.ndarray]) -> DetDataSample:
    """Return a sample with the detections that :func:`pack_boxes` packed."""
    instances = InstanceData(
        bboxes=torch.from_numpy(arrays["boxes"]),
        scores=torch.from_numpy(arrays["scores"]),
        labels=torch.from_numpy(arrays["labels"]),
    )
    return DetDataSample(pred_instances=instances)


def write_txt(result: OrientedBoxes, path: Path) -> None:
    """Write one line per object: ``x1 y1 x2 y2 x3 y3 x4 y4 class score``.

    That is a DOTA label line with the score in the place of the difficulty, in pixels of the scene.

    Args:
        result: Detections of a scene.
        path: The file to write.
    """
    lines = []
    for quad, label, score in zip(result.quads, result.labels, result.scores, strict=True):
        corners = " ".join(f"{value:.2f}" for value in quad.ravel())
        lines.append(f"{corners} {result.names[label]} {score:.6f}\n")
    path.write_text("".join(lines), encoding="utf-8")


def write_json(result: OrientedBoxes, path: Path) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", "rbox", "quad"}, ...]}``.

    ``rbox`` is ``[cx, cy, w, h, theta]`` (le90, radians, clockwise) and ``quad`` the four corners, both in
    pixels of the scene.

    Args:
        result: Detections of a scene.
        path: The file to write.
    """
    shapes = [
        {
            "rbox": [*np.round(box[:4], 2).tolist(), round(float(box[4]), 6)],
            "quad": np.round(quad, 2).tolist(),
        }
        for box, quad in zip(result.boxes, result.quads, strict=True)
    ]
    write_object_json(path, result, shapes)


def write_coco(result: OrientedBoxes, path: Path) -> None:
    """Write COCO's annotation layout: the corners as ``segmentation``, the upright ``bbox``, the score.

    Args:
        result: Detections of a scene.
        path: The file to write.
    """
    shapes = []
    for box, quad in zip(result.boxes, result.quads + 0.5, strict=True):  # COCO's polygons are pixel edges
        low, high = quad.min(axis=0), quad.max(axis=0)
        shapes.append(
            {
                "segmentation": [np.round(quad, 2).ravel().tolist()],
                "bbox": np.round([*low, *(high - low)], 2).tolist(),
                "area": round(float(box[2] * box[3]), 2),
            }
        )
    write_coco_file(path, result, shapes, result.scene_size)


class ScoredObjects(Protocol):
    """Objects of a scene, whatever their shape."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""

    @property
    def labels(self) -> np.ndarray:
        """``(N,)`` indices into ``names``."""

    @property
    def scores(self) -> np.ndarray:
        """``(N,)`` in 0..1."""


def write_object_json(path: Path, result: ScoredObjects, shapes: Sequence[Mapping[str, Any]]) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", ...}, ...]}``.

    Args:
        path: The file.
        result: The objects.
        shapes: Further values of each object.
    """
    objects = [
        {"class": result.names[label], "label": int(label), "score": round(float(score), 6), **shape}
        for shape, label, score in zip(shapes, result.labels, result.scores, strict=True)
    ]
    path.write_text(json.dumps({"classes": list(result.names), "objects": objects}, indent=1) + "\n")


def write_coco_file(
    path: Path, result: ScoredObjects, shapes: Sequence[Mapping[str, Any]], size: tuple[int, int] | None
) -> None:
    """Write a COCO file of one image; objects and categories are numbered from 1.

    Args:
        path: The file.
        result: The objects.
        shapes: ``segmentation``, ``bbox`` and ``area`` of each object.
        size: Height and width of the image.
    """
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": int(label) + 1,
            "score": round(float(score), 6),
            **shape,
            "iscrowd": 0,
        }
        for number, (shape, label, score) in enumerate(
            zip(shapes, result.labels, result.scores, strict=True), 1
        )
    ]
    name = path.name.removesuffix(".json").removesuffix("_coco")
    image: dict[str, Any] = {"id": 1, "file_name": name}
    if size is not None:
        image.update(height=size[0], width=size[1])
    categories = [{"id": number, "name": name} for number, name in enumerate(result.names, 1)]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


_AT_BORDER = 2.0  # pixels; a detector puts the cut end of an object this near to the border
_RECTANGULAR = 0.8  # share of its smallest rectangle that the union of two pieces of one object fills
_SAME_OBJECT = 0.5  # share of a cut box inside a whole one that makes it a piece of that object


class WindowMerger:
    """Collects window detections; an object that several windows see is taken from where it is whole.

    A detection belongs to the window whose core holds its centre: cores divide the scene in the middle of
    what neighbouring windows share. A box that touches a border of its window with scene beyond it is *cut*.

    Of a class, a cut box goes when at least half of it is in a whole one, and a whole box that belongs to
    another window when at least half of it is in a whole box that belongs to its own. Cut boxes that are left
    are pieces of objects larger than the overlap: those that cover the same part of what two windows share,
    and together fill a rectangle, become one box.
    What is left passes rotated NMS per class (or over all classes), in which boxes of equal scores keep their
    order.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Class names.
        score_threshold: Detections below it are not taken.
        iou_threshold: Of the NMS.
        options: The window grid, and whether suppression is across classes.
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        iou_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> None:
        self.height, self.width = height, width
        self.classes = classes
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self.options = options
        self._boxes = [np.zeros((0, 5))]
        self._scores = [np.zeros(0)]
        self._labels = [np.zeros(0, dtype=int)]
        self._cut = [np.zeros(0, dtype=bool)]
        self._foreign = [np.zeros(0, dtype=bool)]
        self._windows = [np.zeros((0, 4))]

    def add(self, window: Window, sample: DetDataSample) -> None:
        """Take the detections of one window, whose boxes are window pixels.

        Args:
            window: Place of the window in the scene, in scene pixels.
            sample: Data sample with ``pred_instances``.
        """
        found = sample.pred_instances
        scores = found.scores.detach().cpu().numpy().astype(np.float64)
        taken = scores >= self.score_threshold
        boxes = get_box_tensor(found.bboxes).detach().cpu().numpy()[taken]
        boxes = shift(boxes, window.left, window.top)
        self._boxes.append(boxes)
        self._scores.append(scores[taken])
        self._labels.append(found.labels.cpu().numpy()[taken])
        self._cut.append(self._is_cut(boxes, window))
        self._foreign.append(self._is_foreign(boxes, window))
        limits = (window.left, window.top, window.left + window.width, window.top + window.height)
        self._windows.append(np.tile(np.array(limits) - 0.5, (len(boxes), 1)))  # in pixel centres

    def result(self) -> OrientedBoxes:
        """Merge what was added."""
        boxes, scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        labels = np.concatenate(self._labels)
        cut, foreign = np.concatenate(self._cut), np.concatenate(self._foreign)
        windows = np.concatenate(self._windows)
        group = np.zeros_like(labels) if self.options.class_agnostic else labels
        # A whole box may belong to no window: where its centre is next to a border of cores, each of two
        # windows may see it on the other's side. It still covers the pieces that others see.
        stays = ~_pieces(boxes, group, cut, ~cut) & ~_pieces(boxes, group, foreign & ~cut, ~foreign & ~cut)
        boxes, scores, labels, cut, windows = (
            values[stays] for values in (boxes, scores, labels, cut, windows)
        )
        boxes, scores, labels = self._join(boxes, scores, labels, cut, windows)
        keep = self._suppress(boxes, scores, labels)
        return make_result(
            boxes[keep], scores[keep], labels[keep], self.classes.names, (self.height, self.width)
        )

    def _join(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        labels: np.ndarray,
        cut: np.ndarray,
        windows: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make one box of the pieces of an object that no window sees whole."""
        groups = _same_objects(boxes, labels, cut, windows)
        if not groups:
            return boxes, scores, labels
        first = [max(group, key=lambda place: scores[place]) for group in groups]
        shapes = [shapely.polygons(rbox_to_quad(boxes[group])) for group in groups]
        whole = [shapely.minimum_rotated_rectangle(shapely.union_all(pieces)) for pieces in shapes]
        joined = quad_to_rbox(np.array([shapely.get_coordinates(shape)[:4] for shape in whole]))
        rest = np.ones(len(boxes), dtype=bool)
        rest[[place for group in groups for place in group]] = False
        # Further views of a joined object are in it, as pieces are in whole boxes.
        every = np.concatenate([boxes[rest], joined])
        kinds = np.concatenate([labels[rest], labels[first]])
        secondary = np.concatenate([cut[rest], np.zeros(len(joined), dtype=bool)])
        stays = ~_pieces(every, kinds, secondary, ~secondary)
        return every[stays], np.concatenate([scores[rest], scores[first]])[stays], kinds[stays]

    def _suppress(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return which boxes pass NMS; of equal scores the earlier one does. Coordinates stay in float64."""
        order = np.argsort(-scores, kind="stable")
        ranks = torch.arange(len(order), 0, -1, dtype=torch.float64)
        groups = None if self.options.class_agnostic else torch.from_numpy(labels[order].astype(np.int64))
        kept = nms_rotated(torch.from_numpy(boxes[order]), ranks, self.iou_threshold, groups)
        return order[np.sort(kept.numpy())]

    def _is_cut(self, boxes: np.ndarray, window: Window) -> np.ndarray:
        """Return which boxes ``(N, 5)`` in scene pixels touch a border of the window inside the scene."""
        x1, y1, x2, y2 = rbox_to_hbox(boxes).T
        right, bottom = window.left + window.width, window.top + window.height
        return (
            ((window.left > 0) & (x1 < window.left + _AT_BORDER))
            | ((window.top > 0) & (y1 < window.top + _AT_BORDER))
            | ((right < self.width) & (x2 > right - _AT_BORDER))
            | ((bottom < self.height) & (y2 > bottom - _AT_BORDER))
        )

    def _is_foreign(self, boxes: np.ndarray, window: Window) -> np.ndarray:
        """Return which boxes have their centres in the core of another window."""
        if self.options.grid is None:
            return np.zeros(len(boxes), dtype=bool)
        left, top, right, bottom = self.options.grid.cores([window])[0]
        x, y = boxes[:, 0] + 0.5, boxes[:, 1] + 0.5
        return (x < left) | (x >= right) | (y < top) | (y >= bottom)


def _pieces(boxes: np.ndarray, labels: np.ndarray, secondary: np.ndarray, primary: np.ndarray) -> np.ndarray:
    """Return which secondary boxes are seen better elsewhere: half of them is in a primary one.

    Only boxes whose upright rectangles meet are compared.

    Args:
        boxes: ``(N, 5)``.
        labels: ``(N,)``; boxes of different labels are not compared.
        secondary: ``(N,)`` booleans.
        primary: ``(N,)`` booleans.
    """
    piece = np.zeros(len(boxes), dtype=bool)
    parts, whole = np.flatnonzero(secondary), np.flatnonzero(primary)
    if not len(parts) or not len(whole):
        return piece
    around = [shapely.box(*rbox_to_hbox(boxes[places]).T) for places in (parts, whole)]
    other, part = shapely.STRtree(around[0]).query(around[1])
    same = labels[parts[part]] == labels[whole[other]]
    part, other = part[same], other[same]
    shared = _shared_area(boxes, parts[part], whole[other])
    areas = boxes[parts, 2] * boxes[parts, 3]
    inside = shared >= _SAME_OBJECT * np.maximum(areas[part], 1e-12)
    piece[parts[part[inside]]] = True
    return piece


def _shared_area(boxes: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the area that pairs of boxes have in common; polygons are made of these boxes alone."""
    places, index = np.unique(np.concatenate([one, other]), return_inverse=True)
    shapes = shapely.polygons(rbox_to_quad(boxes[places]))
    first, second = shapes[index[: len(one)]], shapes[index[len(one) :]]
    return np.asarray(shapely.area(shapely.intersection(first, second)))


def _same_objects(
    boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray, windows: np.ndarray
) -> list[list[int]]:
    """Return groups of cut boxes that are pieces of one object each.

    Two pieces belong together when they come from different windows, are of one class, cover at least half
    of each other's part of what both windows see, and fill a rectangle together.

    Args:
        boxes: ``(N, 5)``.
        labels: ``(N,)``.
        cut: ``(N,)``.
        windows: ``(N, 4)``: limits of the window of each box.
    """
    places = np.flatnonzero(cut)
    if len(places) < 2:
        return []
    shapes = shapely.polygons(rbox_to_quad(boxes[places]))
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    wanted = (one < other) & (labels[places[one]] == labels[places[other]])
    wanted &= (windows[places[one]] != windows[places[other]]).any(axis=1)
    one, other = one[wanted], other[wanted]
    low = np.maximum(windows[places[one], :2], windows[places[other], :2])
    high = np.minimum(windows[places[one], 2:], windows[places[other], 2:])
    shared = shapely.box(
        low[:, 0], low[:, 1], np.maximum(high[:, 0], low[:, 0]), np.maximum(high[:, 1], low[:, 1])
    )
    common = shapely.area(shapely.intersection(shapely.intersection(shapes[one], shapes[other]), shared))
    parts = [shapely.area(shapely.intersection(shapes[side], shared)) for side in (one, other)]
    union = shapely.union(shapes[one], shapes[other])
    around = shapely.area(shapely.minimum_rotated_rectangle(union))
    alike = (common > 0) & (common >= _SAME_OBJECT * np.maximum(*parts))
    alike &= shapely.area(union) >= _RECTANGULAR * around
    if not alike.any():
        return []
    from scipy.sparse import coo_array  # slow to import, and few scenes need them
    from scipy.sparse.csgraph import connected_components

    count, component = connected_components(
        coo_array((np.ones(alike.sum()), (one[alike], other[alike])), shape=(len(places), len(places)))
    )
    groups: list[list[int]] = [[] for _ in range(count)]
    for place, number in zip(places.tolist(), component.tolist(), strict=True):
        groups[number].append(place)
    return [group for group in groups if len(group) > 1]
