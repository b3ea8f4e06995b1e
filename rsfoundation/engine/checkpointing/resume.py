"""mmengine's training loops, which continue exactly from the checkpoints of this package's hook."""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from rsfoundation.core.errors import DataError
from rsfoundation.registry import LOOPS


def rng_state(device: bool = True) -> dict[str, Any]:
    """Return the state of every generator as plain values and tensors.

    Args:
        device: Include the generator of the current CUDA device where there is one.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if device and torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Bring every generator to a state of :func:`rng_state`."""
    kind, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


@contextmanager
def preserved_rng(device: bool = True) -> Iterator[None]:
    """Leave every generator as it was, whatever the body draws."""
    state = rng_state(device)
    try:
        yield
    finally:
        set_rng_state(state)


def seed_host(seed: int) -> None:
    """Seed the generators that data pipelines draw from; those of devices are left alone."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)


def mixed(*parts: int) -> int:
    """Return a seed of 63 bits that differs wherever one of ``parts`` does."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


# Samplers that never end; the others are started again with the next epoch.
_ENDLESS = ("InfiniteSampler", "MultiSourceSampler", "GroupMultiSourceSampler")


class SeededIndex(int):
    """An index into a data set that carries the seed of its sample to the worker."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        """Attach ``seed`` to ``index``."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededIndex, (int(self), self.seed)


class SeededDataset(Dataset):
    """A data set whose samples are each loaded under their own seed; all else is the data set's own."""

    def __init__(self, dataset: Dataset) -> None:
        self.wrapped = dataset

    def __len__(self) -> int:
        return len(self.wrapped)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SeededIndex):
            return self.wrapped[index]
        with preserved_rng(device=False):
            seed_host(index.seed)
            return self.wrapped[int(index)]

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # asked for before it is set, while being copied to a worker
            raise AttributeError(name)
        return getattr(self.wrapped, name)


class SeededBatchSampler:
    """Batches of :class:`SeededIndex`, from any batch on.

    Args:
        batches: The batch sampler that decides which indices go together.
        sampler: The sampler below it.
        seed: The run's seed.
    """

    def __init__(self, batches: Any, sampler: Any, seed: int) -> None:
        self.batches, self.sampler, self.seed = batches, sampler, seed
        self.batch_size: int = getattr(batches, "batch_size", 1)
        self.drop_last: bool = getattr(batches, "drop_last", False)
        self._round, self._skip = 0, 0

    @property
    def endless(self) -> bool:
        """Whether the sampler below never ends."""
        return any(kind.__name__ in _ENDLESS for kind in type(self.sampler).__mro__)

    def start(self, round_: int, skip: int) -> None:
        """Let the next iteration be epoch ``round_`` without its first ``skip`` batches.

        Args:
            round_: Number of the epoch, from 0.
            skip: Batches to leave out at its start.
        """
        self._round, self._skip = round_, skip

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SeededIndex]]:
        skip, self._skip = self._skip, 0
        first = 0
        if skip and type(self.batches) is BatchSampler and hasattr(self.sampler, "skip"):
            self.sampler.skip(skip * self.batch_size)
            first = skip
        for number, batch in enumerate(self.batches, first):
            if number >= skip:
                yield [
                    SeededIndex(index, self._sample_seed(number, place, index))
                    for place, index in enumerate(batch)
                ]

    def _sample_seed(self, number: int, place: int, index: int) -> int:
        if isinstance(self.sampler, InfiniteSampler):
            drawn = (number * self.batch_size + place) * get_world_size() + get_rank()
            return mixed(self.seed, drawn // max(1, self.sampler.size), index)
        if isinstance(self.sampler, DefaultSampler):
            return mixed(self.seed, self._round, index)
        # a sampler that may give an index more than once an epoch
        return mixed(self.seed, self._round, index, get_rank(), number, place)


def make_resumable(loader: DataLoader, seed: int) -> bool:
    """Seed every sample of ``loader`` on its own and let its batches be skipped, in place.

    Args:
        loader: The data loader; changed in place.
        seed: Seed of the run.

    Returns:
        Whether that is possible: not for data sets that are streams.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        print_log(
            "the training data is a stream: a resumed run starts it again, and is not exact",
            logger="current",
            level=logging.WARNING,
        )
        return False
    batches = SeededBatchSampler(loader.batch_sampler, _sampler_of(loader), seed)
    # DataLoader forbids changes because a running iterator would not see them; none runs yet.
    vars(loader).update(dataset=SeededDataset(loader.dataset), batch_sampler=batches)
    # With a generator of its own, starting to iterate draws nothing from the training's.
    loader.generator = torch.Generator()
    return True


def _sampler_of(loader: DataLoader) -> Any:
    return getattr(loader.batch_sampler, "sampler", loader.sampler)


class _Exact:
    """Mixed into a loop of mmengine: where it is, and how it continues from there.

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
                fix="--cfg-options train_dataloader.batch_size=1 or train_dataloader.drop_last=False",
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
                "the checkpoint keeps no random generators: the run continues, but not exactly",
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
                f"continues in the same order of samples, from number {self._skip * step} of this epoch "
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
    """``EpochBasedTrainLoop`` that continues within an epoch; arguments are mmengine's."""

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
                raise DataError("the training data gives no batch", fix="is it smaller than one batch?")
            round_, skip = round_ + 1, 0

    def _due(self) -> bool:
        return (
            self.runner.val_loop is not None
            and self._iter >= self.val_begin
            and (self._iter % self.val_interval == 0 or self._iter == self._max_iters)
        )
