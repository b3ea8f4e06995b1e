"""COCO's metrics on annotations as the data set reads them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmdet.evaluation

from rsfoundation.datasets.instance import coco_index
from rsfoundation.registry import METRICS


@METRICS.register_module()
class CocoMetric(mmdet.evaluation.CocoMetric):
    """``mmdet.CocoMetric`` on annotations that passed the data set's rules, over the images that were tested.

    Upstream reads the file itself: an annotation with id 0 then counts as never found, and two categories of
    one name shift the labels.

    Args:
        ann_file: The json file; the instance task sets it to that of the data set.
        **kwargs: Passed to mmdet's.
    """

    def __init__(self, ann_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if ann_file is not None:
            self._coco_api = coco_index(Path(ann_file))

    def compute_metrics(self, results: Sequence[tuple[dict, dict]]) -> dict[str, float]:
        """Compute the metrics over the images of ``results``."""
        self.img_ids = [prediction["img_id"] for _, prediction in results]
        return dict(super().compute_metrics(results))
