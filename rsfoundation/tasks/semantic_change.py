"""What semantic change detection declares to engine, inference and console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rsfoundation.registry import TASKS
from rsfoundation.tasks.change import ChangeDetection


@TASKS.register_module()
class SemanticChangeDetection(ChangeDetection):
    """Which pixels changed between two dates, and the land cover of both where they did.

    Tests measure both; pictures and scenes show which pixels changed.
    """

    name: ClassVar[str] = "semantic_change"
    metric_names: ClassVar[Mapping[str, str]] = {
        "SeK": "SeK",
        "SCD_Score": "SCD_Score",
        "semantic/Fscd": "semantic/Fscd",
        "semantic/mIoU": "semantic/mIoU",
        "binary/mIoU": "binary/mIoU",
        "binary/F1": "changed/F1",
        "binary/IoU": "changed/IoU",
        "binary/Precision": "changed/Precision",
        "binary/Recall": "changed/Recall",
    }
    primary_metric: ClassVar[str] = "SeK"
