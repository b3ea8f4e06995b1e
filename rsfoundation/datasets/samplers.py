"""Which samples are taken: an order of virtual patches that decodes each source image a few times, and a few
samples from all over a data set.
"""

import math
from collections.abc import Iterator, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from rsfoundation.registry import DATA_SAMPLERS

Sample = TypeVar("Sample")


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """Return samples from all over a data set, in its order, for checks that cannot look at every one.

    Args:
        samples: All of them.
        most: Number of samples; all where there are no more.
    """
    places = np.unique(np.linspace(0, len(samples) - 1, min(most, len(samples)), dtype=int))
    return [samples[place] for place in places]


@DATA_SAMPLERS.register_module()
class NeighbourSampler(Sampler[int]):
    """Every patch once per epoch in a random order in which patches of few images are near each other.

    The images are shuffled, and taken ``at_once`` at a time; the patches of those are shuffled together.
    A worker then needs no more than ``at_once`` decoded images: see ``LoadImageFromFile(cache_mb=...)``.
    Ranks take contiguous shares of the order, filled up from its start to equal lengths.

    Args:
        dataset: Gives ``img_path`` of every entry.
        at_once: Source images whose patches are mixed; more mix better and take more memory.
        seed: Of the order; the same on all ranks. ``None`` draws one.
    """

    def __init__(self, dataset: Sized, at_once: int = 8, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        self.at_once = at_once
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self._sources = _sources(dataset)
        self._share = math.ceil(len(self._sources) / self.world_size)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        place = rng.permutation(self._sources.max() + 1)[self._sources]
        order = np.lexsort((rng.random(len(place)), place // self.at_once))
        start = self.rank * self._share
        return iter(np.resize(order, self._share * self.world_size)[start : start + self._share].tolist())

    def __len__(self) -> int:
        return self._share

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; mmengine calls it before each."""
        self.epoch = epoch


def _sources(dataset: Any) -> np.ndarray:
    """Return for every entry which image file it is read from, numbered from 0."""
    paths = [dataset.get_data_info(row)["img_path"] for row in range(len(dataset))]
    return np.unique(paths, return_inverse=True)[1]
