"""Colours are stable, distinct and far from the grounds of aerial images."""

import itertools

import numpy as np
import pytest

from rsfoundation.visualization import palette


@pytest.mark.parametrize("count", [0, 1, 18, 37, 60])
def test_count_and_range(count):
    colours = palette(count)
    assert len(colours) == count == len(set(colours))
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_longer_palette_begins_with_the_shorter():
    assert palette(40)[:15] == palette(15)


def test_first_fifteen_are_far_apart():
    pairs = itertools.combinations(np.array(palette(15)), 2)
    assert min(np.abs(a - b).sum() for a, b in pairs) > 60
