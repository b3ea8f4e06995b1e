"""Figures of binary change detection, of the changed class alone as papers report them."""

from __future__ import annotations

import numpy as np

from rsfoundation.errors import ConfigError
from rsfoundation.registry import METRICS
from rsfoundation.structures.confusion import class_scores, kappa, overall_accuracy
from rsfoundation.structures.confusion_metric import ConfusionMetric
from rsfoundation.structures.labels import IGNORED


@METRICS.register_module()
class ChangeMetric(ConfusionMetric):
    """``<class>/{F1,IoU,Precision,Recall}`` of the changed class, ``OA`` and ``Kappa``, in 0..1.

    Published change detection figures are those of the changed class over the whole test set; an
    average with the unchanged class, or over images, is a different and higher number.

    Args:
        class_name: Name of the class whose figures count.
        ignore_index: Truth label that counts nowhere.
        collect_device: Where matrices are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every key, as ``prefix/key``.
    """

    def __init__(
        self,
        class_name: str = "changed",
        ignore_index: int = IGNORED,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ignore_index, collect_device, prefix)
        self.class_name = class_name

    def figures(self, matrix: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of the summed matrix.

        Raises:
            ConfigError: The data set has no class of that name.
        """
        if self.class_name not in names:
            raise ConfigError(
                f"the data set has no class '{self.class_name}', only {', '.join(names)}",
                where="val_evaluator / test_evaluator",
                cure="set class_name to the name of the changed class",
            )
        score = class_scores(matrix, names.index(self.class_name))
        return {
            f"{self.class_name}/F1": score.f1,
            f"{self.class_name}/IoU": score.iou,
            f"{self.class_name}/Precision": score.precision,
            f"{self.class_name}/Recall": score.recall,
            "OA": overall_accuracy(matrix),
            "Kappa": kappa(matrix),
        }
