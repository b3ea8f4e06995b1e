"""Patches of few images near each other, each once, on any number of ranks."""

import numpy as np
import pytest

from rsfoundation.datasets import samplers as module
from rsfoundation.datasets.samplers import NeighbourSampler
from rsfoundation.registry import DATA_SAMPLERS


class Patches:
    """Ten patches of each of twelve images."""

    def __len__(self):
        return 120

    def get_data_info(self, row):
        return {"img_path": f"P{row % 12}.png"}


def images(order):
    return [row % 12 for row in order]


def test_every_patch_once_and_images_taken_in_turns():
    order = list(NeighbourSampler(Patches(), at_once=3, seed=1))
    assert sorted(order) == list(range(120))
    for start in range(0, 120, 30):
        assert len(set(images(order[start : start + 30]))) == 3
    assert images(order[:30]) != sorted(images(order[:30]))


def test_orders_differ_by_epoch_and_repeat_by_seed():
    sampler = NeighbourSampler(Patches(), seed=1)
    first = list(sampler)
    assert first == list(sampler) == list(NeighbourSampler(Patches(), seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != first


@pytest.mark.parametrize("ranks", [2, 7])
def test_ranks_share_an_epoch(monkeypatch, ranks):
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(module, "get_dist_info", lambda rank=rank: (rank, ranks))
        sampler = NeighbourSampler(Patches(), at_once=2, seed=3)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler) == int(np.ceil(120 / ranks))
    assert set().union(*shares) == set(range(120))
    assert ranks != 2 or not set(shares[0]) & set(shares[1])


def test_runners_find_it():
    assert DATA_SAMPLERS.get("rsfoundation.NeighbourSampler") is NeighbourSampler
