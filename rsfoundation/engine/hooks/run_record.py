"""Keeps the record of a run: resolved config, environment, metrics as JSON, curves as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from rsfoundation.engine.curves import draw_curves
from rsfoundation.engine.environment import environment_report
from rsfoundation.engine.results import unify_metrics, write_json
from rsfoundation.registry import HOOKS
from rsfoundation.task import Task


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write ``config.py``, ``environment.json``, ``metrics.json`` and ``curves.png`` into the run folder.

    ``metrics.json`` holds the training scalars of each logged iteration and the unified metrics of each
    validation. It is written with every checkpoint, and a resumed run goes on with it.

    Args:
        task: Gives the unified names of the metrics.
        interval: Training iterations between two kept scalars.
    """

    priority = "LOW"  # before the checkpoint hook

    def __init__(self, task: Task, interval: int = 10) -> None:
        self.task = task
        self.interval = interval
        self.record: dict[str, Any] = {"task": task.name, "train": [], "val": []}

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Write the resolved config and the environment."""
        folder = Path(runner.work_dir)
        runner.cfg.dump(folder / "config.py")
        write_json(folder / "environment.json", environment_report())

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Go on with the record of the run that is resumed, up to where it resumes."""
        file = Path(runner.work_dir) / "metrics.json"
        if runner.iter and file.is_file():
            earlier = json.loads(file.read_text())
            for part in ("train", "val"):
                self.record[part] = [row for row in earlier.get(part, []) if row["iter"] <= runner.iter]

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the scalars of every ``interval``-th iteration."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        scalars = runner.message_hub.log_scalars
        row: dict[str, Any] = {"epoch": runner.epoch + 1, "iter": runner.iter + 1}
        for key, buffer in scalars.items():
            if key.startswith("train/") and buffer.data[0].size:
                row[key.removeprefix("train/")] = buffer.mean(min(self.interval, buffer.data[0].size))
        self.record["train"].append(row)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics of a validation and refresh the files."""
        unified, _ = unify_metrics(self.task, metrics or {})
        if runner.iter:
            # a run that was killed while it validated does so again
            rows = [row for row in self.record["val"] if row["iter"] != runner.iter]
            self.record["val"] = [*rows, {"epoch": runner.epoch, "iter": runner.iter, **unified}]
            self._write(runner)

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the metrics so far."""
        write_json(Path(runner.work_dir) / "metrics.json", self.record)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Refresh the files a last time."""
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        folder = Path(runner.work_dir)
        write_json(folder / "metrics.json", self.record)
        draw_curves(self.record, folder / "curves.png")
