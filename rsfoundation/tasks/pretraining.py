"""What pretraining on images without labels declares to engine and console."""

from __future__ import annotations

from typing import ClassVar

from rsfoundation.core.task import ChecksData, Task
from rsfoundation.registry import TASKS


@TASKS.register_module()
class Pretraining(Task, ChecksData):
    """Masked image modelling. It has no metrics of its own: `rsf test --probe` measures a backbone."""

    name: ClassVar[str] = "pretraining"
