"""What the metrics of class maps share: one confusion matrix per image, summed over all processes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from rsfoundation.structures.confusion import confusion_matrix
from rsfoundation.structures.labels import IGNORED


class ConfusionMetric(BaseMetric):
    """Collects a confusion matrix per image.

    One matrix per image, not one per process, so that the images a distributed sampler repeats to
    fill up its last round can be dropped again.

    Args:
        ignore_index: Truth label that counts nowhere.
        collect_device: Where matrices are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every key, as ``prefix/key``.
    """

    def __init__(
        self, ignore_index: int = IGNORED, collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch of ``gt_sem_seg`` and ``pred_sem_seg``."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            truth = sample["gt_sem_seg"]["data"].squeeze(0).cpu().numpy()
            prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            self.results.append(confusion_matrix(truth, prediction, classes, self.ignore_index))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Sum the matrices and compute the figures."""
        return self.figures(np.sum(results, axis=0), tuple(self.dataset_meta["classes"]))

    @abstractmethod
    def figures(self, matrix: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of the summed matrix; ``names`` are the class names."""
