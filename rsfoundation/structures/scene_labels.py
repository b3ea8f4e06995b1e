"""The class map of a scene gathered from the segmentation samples of its windows."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from rsfoundation.structures.label_map import LabelMap
from rsfoundation.structures.window_merge import WindowMerge
from rsfoundation.task import Classes, Window


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
