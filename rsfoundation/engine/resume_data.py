"""Training data that can go on anywhere: batches are skipped by index, every sample has its own seed.

A sample's random transforms are drawn from a seed made of the run's seed, the epoch and the sample's index.
They depend neither on the worker that loads it, nor on what was loaded before, nor on the number of ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from rsfoundation.engine.rng import mixed, preserved_rng, seed_host

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
        """Let the next iteration be epoch ``round_`` without its first ``skip`` batches."""
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
