"""What a distillation needs around its model: statistics of the targets before the first step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from rsfoundation.registry import HOOKS


@HOOKS.register_module()
class TargetStatisticsHook(Hook):
    """Measures mean and deviation of the teacher's channels on training images, where a run begins.

    A resumed run has them in its checkpoint. The run's random numbers are not touched.

    Args:
        images: Number of images.
    """

    def __init__(self, images: int = 256) -> None:
        self.images = images

    def before_train(self, runner: Runner) -> None:
        """Measure them on the first rank and send them to the others."""
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if int(model.target_images):
            return
        if runner.rank == 0:
            options = {**runner.cfg.train_dataloader, "persistent_workers": False}
            if not options.get("num_workers"):
                options.pop("persistent_workers")
            options["sampler"] = dict(type="DefaultSampler", shuffle=True, seed=0)
            options.pop("batch_sampler", None)
            with unchanged_random_state():
                loader = Runner.build_dataloader(options, seed=0)
                batches = (model.data_preprocessor(batch, False) for batch in loader)
                model.measure_targets(((one["inputs"], one["data_samples"]) for one in batches), self.images)
            runner.logger.info(f"targets are standardised by {int(model.target_images)} training images")
        for value in (model.target_mean, model.target_deviation, model.target_images):
            broadcast(value)


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Give the generators of Python, NumPy and torch the state back that they had."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
