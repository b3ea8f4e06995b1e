"""Adds throughput and, on CPU, memory to the lines that mmengine logs."""

from __future__ import annotations

import resource
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from rsfoundation.registry import HOOKS

_WINDOW = 20  # iterations


@HOOKS.register_module()
class ProgressHook(Hook):
    """Log ``images_per_second`` over all ranks and, without CUDA, ``peak_memory_mb`` of this process.

    mmengine's own line has the remaining time, the times of an iteration and of its data and, on CUDA, the
    peak memory of the device.
    """

    priority = "NORMAL"  # after IterTimerHook, which is registered earlier, and before LoggerHook

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure the last iterations."""
        hub = runner.message_hub
        if "train/time" not in hub.log_scalars or not isinstance(data_batch, dict):
            return
        seconds = hub.get_scalar("train/time").mean(_WINDOW)
        images = len(data_batch["inputs"]) * get_world_size()
        hub.update_scalar("train/images_per_second", images / max(seconds, 1e-9))
        if not torch.cuda.is_available():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in KiB
            hub.update_scalar("train/peak_memory_mb", peak)
