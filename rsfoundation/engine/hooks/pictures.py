"""Draws ground truth and prediction of tested samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from rsfoundation.core.task import Classes, Draws
from rsfoundation.engine.runner import classes_of
from rsfoundation.engine.tracking import trackers
from rsfoundation.io.images import read_rgb, write_rgb
from rsfoundation.registry import HOOKS


@HOOKS.register_module()
class PictureHook(Hook):
    """Write ``pictures/{val,test}/NNN_<image>.png`` for the first samples of each evaluation.

    Args:
        task: Draws the pictures.
        count: Pictures per evaluation.
        max_side: Longer side of a picture's source in pixels; larger images are drawn smaller.
    """

    def __init__(self, task: Draws, count: int = 8, max_side: int = 4096) -> None:
        self.task = task
        self.count = count
        self.max_side = max_side
        self._classes: Classes | None = None
        self._drawn = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.val_dataloader.dataset.metainfo)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.test_dataloader.dataset.metainfo)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw what is left to draw of this batch."""
        self._draw(runner, "val", outputs or (), runner.iter)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw what is left to draw of this batch."""
        self._draw(runner, "test", outputs or (), 0)

    def _start(self, meta: dict[str, Any]) -> None:
        self._classes = classes_of(meta)
        self._drawn = 0

    def _draw(self, runner: Runner, mode: str, samples: Sequence[BaseDataElement], step: int) -> None:
        if not is_main_process() or self._classes is None:
            return
        folder = Path(runner.work_dir) / "pictures" / mode
        for sample in samples[: self.count - self._drawn]:
            paths = self.task.image_paths(sample)
            part = self.task.read_region(sample)
            images = [read_rgb(path) for path in paths] if part is None else [part]
            picture = self.task.draw_comparison(images, sample, self._classes)
            name = f"{self._drawn:03d}_{Path(paths[0]).stem}"
            write_rgb(folder / f"{name}.png", self._fit(picture))
            for tracker in trackers(runner):
                tracker.add_image(f"{folder.name}/{name}", self._fit(picture), step=step)
            self._drawn += 1

    def _fit(self, picture: Any) -> Any:
        scale = self.max_side / max(picture.shape[:2])
        return (
            picture
            if scale >= 1
            else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        )
