"""The values that training and testing return, and their one JSON layout for every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rsfoundation.core.files import plain_value, write_json
from rsfoundation.core.task import Evaluates


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind.

    Attributes:
        work_dir: The run folder.
        last_checkpoint: Newest checkpoint; ``None`` when none was saved.
        best_checkpoint: Checkpoint with the best primary metric; ``None`` without validation.
        metrics: Unified metrics of the last validation.
        seconds: Wall time.
    """

    work_dir: Path
    last_checkpoint: Path | None
    best_checkpoint: Path | None
    metrics: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class TestResult:
    """What a test run measured.

    Attributes:
        task: Name of the task.
        config: File of the config.
        checkpoint: File of the weights.
        metrics: Unified name -> value; fractions in 0..1.
        details: Every figure of the evaluator that has no unified name, such as per-class values.
        pictures: Folder of the comparison pictures.
        reports: Other files that the task wrote: curves, tables, submissions.
        seconds: Wall time.
    """

    __test__ = False  # not a test class for pytest

    task: str
    config: str
    checkpoint: str
    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    pictures: str | None = None
    reports: tuple[str, ...] = ()
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Write this result as JSON."""
        write_json(path, asdict(self))


def unify_metrics(task: object, raw: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Split evaluator output into unified metrics and the rest.

    Args:
        task: Declares which evaluator key has which unified name; without capability all are details.
        raw: What mmengine's evaluator returned.

    Returns:
        ``(metrics, details)``.
    """
    names = task.metric_names if isinstance(task, Evaluates) else {}
    metrics = {name: float(raw[key]) for key, name in names.items() if key in raw}
    details = {key: plain_value(value) for key, value in raw.items() if key not in names}
    return metrics, details
