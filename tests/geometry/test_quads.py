"""Crossed, flat and faraway quads against shapely and worked figures."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rsfoundation.geometry.boxes import in_order, is_crossed, is_outside, short_sides

corners = arrays(np.float64, (6, 4, 2), elements=st.integers(0, 30).map(float))


@given(corners)
def test_crossed_quads_are_those_that_shapely_finds_not_simple(quads):
    """Corners in general position: with three on a line shapely also rejects touching sides."""
    for quad, crossed in zip(quads, is_crossed(quads), strict=True):
        areas = [abs(_area(np.delete(quad, corner, axis=0))) for corner in range(4)]
        if min(areas) > 0:
            assert crossed != shapely.LinearRing(quad).is_simple


@given(corners)
def test_putting_corners_in_order_uncrosses_and_keeps_them(quads):
    ordered = in_order(quads).reshape(-1, 4, 2)
    assert not is_crossed(ordered).any()
    for before, after in zip(quads, ordered, strict=True):
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))


def test_short_sides():
    quads = [[0, 0, 10, 0, 10, 4, 0, 4], [0, 0, 3, 3, 1, 5, -2, 2], [0, 0, 5, 0, 10, 0, 20, 0], [7, 7] * 4]
    np.testing.assert_allclose(short_sides(quads), [4, np.sqrt(8), 0, 0], atol=1e-5)
    assert short_sides(np.zeros((0, 8))).shape == (0,)


@pytest.mark.parametrize(
    ("quad", "outside"),
    [
        ([-9, 0, -1, 0, -1, 5, -9, 5], True),
        ([-9, 0, 1, 0, 1, 5, -9, 5], False),
        ([65, 0, 70, 0, 70, 5, 65, 5], True),
        ([5, 49, 9, 49, 9, 60, 5, 60], True),
        ([5, 40, 9, 40, 9, 60, 5, 60], False),
    ],
)
def test_outside(quad, outside):
    assert is_outside([quad], (64, 48)).tolist() == [outside]
    assert is_outside([quad], [(np.inf, np.inf)]).tolist() == [outside and quad[2] < 0]


def test_no_quads():
    none = np.zeros((0, 8))
    assert len(is_crossed(none)) == len(in_order(none)) == len(is_outside(none, np.zeros((0, 2)))) == 0


def _area(points):
    (ax, ay), (bx, by), (cx, cy) = points
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
