"""Filling, clipping and sweeping polygons, against shapely."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfoundation.prepare.toy.geometry import (
    Box,
    Frame,
    ellipse,
    polygon_mask,
    rectangle,
    sweep,
    visible_share,
)

numbers = st.floats(-20, 60, allow_nan=False)
boxes = st.builds(Box, numbers, numbers, st.floats(3, 40), st.floats(3, 40), st.floats(-4, 4))


@settings(max_examples=60, deadline=None)
@given(boxes)
def test_mask_holds_the_pixels_whose_centre_is_inside(box):
    mask = polygon_mask(box.quad(), 40, 30)
    rows, columns = np.indices(mask.shape)
    polygon = shapely.Polygon(box.quad())
    clear = shapely.distance(polygon.exterior, shapely.points(columns, rows)) > 1e-6
    inside = shapely.contains_xy(polygon, columns, rows)
    assert np.array_equal(mask[clear], inside[clear])


def test_mask_of_a_concave_polygon():
    corners = np.array([(1, 1), (9, 1), (9, 5), (5, 5), (5, 9), (1, 9)]) - 0.5
    mask = polygon_mask(corners, 12, 12)
    assert mask.sum() == 8 * 4 + 4 * 4
    assert not mask[6, 6]


def test_neighbours_share_no_pixel_and_leave_none_out():
    left, right = rectangle(2, 2, 6, 8), rectangle(6, 2, 10, 8)
    one, two = polygon_mask(left, 12, 12), polygon_mask(right, 12, 12)
    assert not (one & two).any()
    assert np.array_equal(one | two, polygon_mask(rectangle(2, 2, 10, 8), 12, 12))


@pytest.mark.parametrize("corners", [rectangle(50, 50, 60, 60), rectangle(-9, -9, -2, -2)])
def test_nothing_of_a_polygon_outside(corners):
    assert not polygon_mask(corners, 20, 20).any()
    assert visible_share(corners, 20, 20) == 0


@settings(max_examples=60, deadline=None)
@given(boxes)
def test_visible_share_is_shapelys(box):
    polygon = shapely.Polygon(box.quad())
    expected = polygon.intersection(shapely.box(-0.5, -0.5, 39.5, 29.5)).area / polygon.area
    assert visible_share(box.quad(), 40, 30) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(boxes, numbers, numbers)
def test_sweep_covers_start_and_end(box, x, y):
    polygon = shapely.Polygon(sweep(box.quad(), (x, y))).buffer(1e-3)
    assert polygon.contains(shapely.Polygon(box.quad()))
    assert polygon.contains(shapely.Polygon(box.quad() + np.array([x, y])))


def test_a_circle_keeps_its_area():
    assert shapely.Polygon(ellipse(3, 4, 10)).area == pytest.approx(np.pi * 100, rel=1e-6)


def test_frames_nest():
    outer, point = Frame(5, -3, 0.7), np.array([2.0, 9.0])
    child = outer.child(4, 1, -0.2)
    assert child.out(point) == pytest.approx(outer.out(Frame(4, 1, -0.2).out(point)))
    assert Frame(0, 0, np.pi / 2).out([1, 0]) == pytest.approx([0, 1])  # clockwise: x turns to down
