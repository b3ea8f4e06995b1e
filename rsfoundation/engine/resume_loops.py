"""mmengine's training loops, going on exactly where a checkpoint was saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop

from rsfoundation.engine.resume_data import make_resumable
from rsfoundation.engine.rng import rng_state, set_rng_state
from rsfoundation.errors import DataError
from rsfoundation.registry import LOOPS


class _Exact:
    """Mixed into a loop of mmengine: where it is, and how it goes on from there.

    What a checkpoint keeps of it: the samples of this epoch that are done, over all ranks; the
    iteration at which it last validated; the generators of every rank.
    """

    def __init__(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, *args, **kwargs)  # type: ignore[call-arg]
        if hasattr(self.dataloader.dataset, "__len__") and not len(self.dataloader):
            raise DataError(
                f"{len(self.dataloader.dataset)} samples over {get_world_size()} ranks fill no batch of "
                f"{self.dataloader.batch_size or 'that size'}, and drop_last leaves out the rest",
                where="train_dataloader",
                cure="--cfg-options train_dataloader.batch_size=1 or train_dataloader.drop_last=False",
            )
        self._resumable = make_resumable(self.dataloader, runner.seed or 0)
        self._base = (0, 0)  # iteration and samples at the start of this epoch, or where it was resumed
        self._skip = 0
        self._validated = -1
        self._generators: dict[str, Any] | None = None
        self._paused: dict[str, Any] | None = None  # the generators as training left them to validate

    dataloader: Any
    runner: Any
    _iter: int
    _epoch: int

    def resume_state(self, epoch: int, iteration: int) -> dict[str, Any]:
        """Return what a checkpoint at ``epoch`` and ``iteration`` needs. Every rank must call it."""
        base_iteration, base_samples = self._base
        done = base_samples + (iteration - base_iteration) * self._step_samples()
        return {
            "samples": done if self._by_iter or epoch == self._epoch else 0,
            "batch": self._step_samples(),
            "validated": self._validated,
            "seed": self.dataloader.batch_sampler.seed if self._resumable else None,
            "generators": all_gather_object(self._paused or rng_state()),
        }

    def resume_from(self, state: dict[str, Any] | None) -> None:
        """Go on from a state of :meth:`resume_state`, or as well as possible without one."""
        if not self._resumable:
            return
        if state is None:
            print_log(
                "the checkpoint keeps no random generators: the run goes on, but not exactly",
                logger="current",
                level=logging.WARNING,
            )
            state = self._guessed_state()
        step = self._step_samples()
        self._skip = state["samples"] // step
        self._base = (self._iter, self._skip * step)
        self._validated = state["validated"]
        if state["seed"] is not None:
            self.dataloader.batch_sampler.seed = state["seed"]
            if hasattr(self.dataloader.batch_sampler.sampler, "seed"):
                self.dataloader.batch_sampler.sampler.seed = state["seed"]
        if state["batch"] != step:
            print_log(
                f"the checkpoint was saved with {state['batch']} samples a step, this run takes {step}: it "
                f"goes on in the same order of samples, from number {self._skip * step} of this epoch "
                f"({state['samples'] - self._skip * step} samples are seen again)",
                logger="current",
                level=logging.WARNING,
            )
        generators = state["generators"]
        self._generators = generators[get_rank()] if get_rank() < len(generators) else None

    def _guessed_state(self) -> dict[str, Any]:
        """Say where a checkpoint of plain mmengine is."""
        done = self._iter if self._by_iter else self._iter - self._epoch * len(self.dataloader)
        inside = self._by_iter or 0 <= done < len(self.dataloader)
        samples = done * self._step_samples() if inside else 0
        return {
            "samples": samples,
            "batch": self._step_samples(),
            "validated": self._iter,
            "seed": None,
            "generators": [],
        }

    @property
    def _by_iter(self) -> bool:
        return isinstance(self, _IterBasedTrainLoop)

    def _step_samples(self) -> int:
        """Return the samples of one iteration, over all ranks."""
        return getattr(self.dataloader.batch_sampler, "batch_size", 1) * get_world_size()

    def _restore_generators(self) -> None:
        if self._generators is not None:
            set_rng_state(self._generators)
            self._generators = None

    def _validate(self) -> None:
        """Validate without drawing from the training's generators."""
        self._validated = self._iter
        self._paused = rng_state()
        try:
            self.runner.val_loop.run()
        finally:
            set_rng_state(self._paused)
            self._paused = None


@LOOPS.register_module()
class EpochBasedTrainLoop(_Exact, _EpochBasedTrainLoop):
    """``EpochBasedTrainLoop`` that goes on within an epoch; arguments are mmengine's."""

    def run(self) -> torch.nn.Module:
        """Train."""
        self.runner.call_hook("before_train")
        resumed = self._iter > 0
        if resumed and not self._skip:
            self._restore_generators()
            if self._due() and self._validated != self._iter:  # the run ended before or within it
                self._validate()
        if resumed and self._resumable:  # another number of ranks has another number of iterations
            left = (self._max_epochs - self._epoch) * len(self.dataloader) - self._skip
            self._max_iters = self._iter + left
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self._due():
                self._validate()
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train one epoch, or what is left of it."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        if self._resumable:
            self.dataloader.batch_sampler.start(self._epoch, self._skip)
        self._restore_generators()
        first, self._skip = self._skip, 0
        for index, batch in enumerate(self.dataloader, first):
            self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1
        self._base = (self._iter, 0)

    def _due(self) -> bool:
        return (
            self.runner.val_loop is not None
            and self._epoch >= self.val_begin
            and (self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs)
        )


@LOOPS.register_module()
class IterBasedTrainLoop(_Exact, _IterBasedTrainLoop):
    """``IterBasedTrainLoop`` that skips what was trained without loading it; arguments are mmengine's."""

    def run(self) -> torch.nn.Module:
        """Train."""
        if not self._resumable:
            return super().run()
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = self._batches(self._skip)
        self._restore_generators()
        if self._iter > 0 and self._due() and self._validated != self._iter:
            self._validate()
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if self._due():
                self._validate()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _batches(self, done: int) -> Iterator[Any]:
        """Yield batches without end, from number ``done`` on; a sampler that ends starts its next epoch."""
        sampler = self.dataloader.batch_sampler
        round_, skip = (0, done) if sampler.endless else divmod(done, max(1, len(sampler)))
        while True:
            if hasattr(sampler.sampler, "set_epoch"):
                sampler.sampler.set_epoch(round_)
            sampler.start(round_, skip)
            count = skip
            for batch in self.dataloader:
                count += 1
                yield batch
            if not count:
                raise DataError("the training data gives no batch", cure="is it smaller than one batch?")
            round_, skip = round_ + 1, 0

    def _due(self) -> bool:
        return (
            self.runner.val_loop is not None
            and self._iter >= self.val_begin
            and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
        )
