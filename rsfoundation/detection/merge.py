"""Merging the detections of overlapping windows in scene pixels."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor

from rsfoundation.detection.result import OrientedBoxes, make_result
from rsfoundation.ops import box_iou_rotated, nms_rotated
from rsfoundation.structures.boxes import rbox_to_hbox, shift
from rsfoundation.task import Classes, Window

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
