"""Merging the detections of overlapping windows in scene pixels."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor

from rsfoundation.core.task import Classes, Window
from rsfoundation.geometry.boxes import normalise, rbox_to_hbox, rbox_to_quad, shift
from rsfoundation.ops import box_iou_rotated, nms_rotated


@dataclass(frozen=True)
class OrientedBoxes:
    """Detections of one scene, best score first.

    Attributes:
        boxes: ``(N, 5)`` le90 boxes in scene pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    @property
    def quads(self) -> np.ndarray:
        """Corners ``(N, 4, 2)`` in scene pixels."""
        return rbox_to_quad(self.boxes)

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        found = {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}
        return {"objects": len(self.labels), **found}


def make_result(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> OrientedBoxes:
    """Bring detections into the order and the angle range of :class:`OrientedBoxes`."""
    order = np.argsort(-scores, kind="stable")
    return OrientedBoxes(normalise(boxes)[order], scores[order], labels[order].astype(int), names)


def write_txt(result: OrientedBoxes, path: Path) -> None:
    """Write one line per object: ``x1 y1 x2 y2 x3 y3 x4 y4 class score``.

    That is a DOTA label line with the score in the place of the difficulty, in pixels of the scene.
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
    """
    objects = [
        {
            "class": result.names[label],
            "label": int(label),
            "score": round(float(score), 6),
            "rbox": [*np.round(box[:4], 2).tolist(), round(float(box[4]), 6)],
            "quad": np.round(quad, 2).tolist(),
        }
        for box, quad, label, score in zip(
            result.boxes, result.quads, result.labels, result.scores, strict=True
        )
    ]
    path.write_text(json.dumps({"classes": list(result.names), "objects": objects}, indent=1) + "\n")


_AT_BORDER = 2.0  # pixels; a detector puts the cut end of an object this near to the border
_SAME_OBJECT = 0.5  # share of a cut box inside a whole one that makes it a piece of that object


class WindowMerger:
    """Collects window detections; an object that a window border cuts is taken from where it is whole.

    A box that touches a border with scene beyond it is *cut*. A cut box goes when at least half of it
    lies in a whole box of its class; what is left, cut boxes of objects larger than the overlap included,
    passes rotated NMS per class.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Class names.
        score_threshold: Detections below it are not taken.
        iou_threshold: Of the NMS.
    """

    def __init__(
        self, height: int, width: int, classes: Classes, score_threshold: float, iou_threshold: float
    ) -> None:
        self.height, self.width = height, width
        self.classes = classes
        self.score_threshold = score_threshold
        self.iou_threshold = iou_threshold
        self._boxes = [np.zeros((0, 5))]
        self._scores = [np.zeros(0)]
        self._labels = [np.zeros(0, dtype=int)]
        self._cut = [np.zeros(0, dtype=bool)]

    def add(self, window: Window, sample: DetDataSample) -> None:
        """Take the detections of one window, whose boxes are window pixels."""
        found = sample.pred_instances
        scores = found.scores.detach().cpu().numpy().astype(np.float64)
        taken = scores >= self.score_threshold
        boxes = get_box_tensor(found.bboxes).detach().cpu().numpy()[taken]
        boxes = shift(boxes, window.left, window.top)
        self._boxes.append(boxes)
        self._scores.append(scores[taken])
        self._labels.append(found.labels.cpu().numpy()[taken])
        self._cut.append(self._is_cut(boxes, window))

    def result(self) -> OrientedBoxes:
        """Merge what was added."""
        boxes, scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        labels, cut = np.concatenate(self._labels), np.concatenate(self._cut)
        stays = ~_pieces(boxes, labels, cut)
        boxes, scores, labels = boxes[stays], scores[stays], labels[stays]
        keep = nms_rotated(
            torch.from_numpy(boxes), torch.from_numpy(scores), self.iou_threshold, torch.from_numpy(labels)
        ).numpy()
        return make_result(boxes[keep], scores[keep], labels[keep], self.classes.names)

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


def _pieces(boxes: np.ndarray, labels: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Return which boxes are cut pieces of an object that some window saw whole."""
    piece = np.zeros(len(boxes), dtype=bool)
    for label in np.unique(labels[cut]):
        whole = np.flatnonzero((labels == label) & ~cut)
        parts = np.flatnonzero((labels == label) & cut)
        if len(whole):
            inside = box_iou_rotated(
                torch.from_numpy(boxes[parts]), torch.from_numpy(boxes[whole]), mode="iof"
            )
            piece[parts] = inside.max(dim=1).values.numpy() >= _SAME_OBJECT
    return piece
