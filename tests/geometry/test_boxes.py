"""The conventions as properties: what a conversion may change (nothing a corner would notice)."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from rsfoundation.geometry import boxes as bx

VERSIONS = ["le90", "le135", "oc"]
RANGES = {"le90": (-np.pi / 2, np.pi / 2), "le135": (-np.pi / 4, 3 * np.pi / 4), "oc": (-np.pi / 2, 0)}

position = st.floats(-50, 2000, allow_nan=False)
side = st.floats(1, 800, allow_nan=False)
angle = st.floats(-7, 7, allow_nan=False)
rbox = st.tuples(position, position, side, side, angle)
version = st.sampled_from(VERSIONS)


def same_region(a, b):
    a, b = Polygon(a), Polygon(b)
    return a.symmetric_difference(b).area <= 1e-5 * max(a.area, b.area) + 1e-3 * (a.length + b.length)


@given(rbox, version)
def test_normalise_keeps_the_corners_and_the_range(box, name):
    (result,) = bx.normalise(box, name)
    low, high = RANGES[name]
    assert low <= result[4] < high
    if name != "oc":
        assert result[2] >= result[3]
    assert same_region(bx.rbox_to_quad(box)[0], bx.rbox_to_quad(result)[0])


@given(rbox, version)
def test_normalise_is_idempotent(box, name):
    once = bx.normalise(box, name)
    np.testing.assert_array_equal(bx.normalise(once, name), once)


@settings(max_examples=60)
@given(rbox, version)
def test_quad_round_trip(box, name):
    quad = bx.rbox_to_quad(box)
    (result,) = bx.quad_to_rbox(quad, name)
    low, high = RANGES[name]
    assert low <= result[4] < high
    assert same_region(quad[0], bx.rbox_to_quad(result)[0])
    np.testing.assert_allclose(result[:2], box[:2], atol=1e-2)


@given(rbox)
def test_quad_is_clockwise_on_the_screen_and_has_the_area(box):
    quad = bx.rbox_to_quad(box)[0]
    x, y = quad.T
    signed = 0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    assert signed == pytest.approx(box[2] * box[3], rel=1e-6, abs=1e-6)  # positive: clockwise, y down


@given(rbox, st.sampled_from(["horizontal", "vertical", "diagonal"]), version)
def test_flip_commutes_with_the_polygon(box, direction, name):
    height, width = 640, 480
    expected = bx.rbox_to_quad(box)[0]
    if direction != "vertical":
        expected = np.array([width - 1, 0]) + expected * [-1, 1]
    if direction != "horizontal":
        expected = np.array([0, height - 1]) + expected * [1, -1]
    assert same_region(expected, bx.rbox_to_quad(bx.flip(box, height, width, direction, name))[0])


@given(rbox, angle, version)
def test_rotation_commutes_with_the_polygon(box, turn, name):
    height, width = 640, 480
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -np.rad2deg(turn), 1.0)
    expected = bx.rbox_to_quad(box)[0] @ matrix[:, :2].T + matrix[:, 2]
    assert same_region(expected, bx.rbox_to_quad(bx.rotate(box, height, width, turn, name))[0])


@given(rbox)
def test_hbox_encloses(box):
    (x1, y1, x2, y2), quad = bx.rbox_to_hbox(box)[0], bx.rbox_to_quad(box)[0]
    assert (quad[:, 0].min(), quad[:, 1].max()) == (x1, y2)
    assert (quad[:, 0].max(), quad[:, 1].min()) == (x2, y1)


def test_flip_moves_the_same_pixels():
    """A painted pixel and a box on it stay together, which fixes the half pixel."""
    image = np.zeros((5, 8))
    image[1, 6] = 1
    flipped = bx.flip((6, 1, 1, 1, 0), 5, 8, "diagonal")[0]
    y, x = np.argwhere(image[::-1, ::-1])[0]
    assert (flipped[0], flipped[1]) == (x, y)


def test_known_box():
    quad = bx.rbox_to_quad((10, 20, 4, 2, np.pi / 2))[0]
    np.testing.assert_allclose(quad, [(11, 18), (11, 22), (9, 22), (9, 18)], atol=1e-12)


def test_shift_moves_centres_only():
    np.testing.assert_array_equal(bx.shift((1, 2, 3, 4, 0.5), 10, 20), [(11, 22, 3, 4, 0.5)])


def test_degenerate_and_empty():
    assert bx.quad_to_rbox([[3, 3] * 4])[0, 2:4].tolist() == [0, 0]
    empty = np.zeros((0, 5))
    assert bx.rbox_to_quad(empty).shape == (0, 4, 2)
    assert bx.quad_to_rbox(np.zeros((0, 8))).shape == (0, 5)
    assert bx.rbox_to_hbox(empty).shape == (0, 4)
    for result in (bx.normalise(empty), bx.flip(empty, 9, 9, "diagonal"), bx.rotate(empty, 9, 9, 1.0)):
        assert result.shape == (0, 5)


factor = st.floats(0.3, 3.0, allow_nan=False)


@settings(max_examples=200)
@given(rbox, factor, factor)
def test_rescaling_gives_the_smallest_rectangle_around_the_moved_corners(box, scale_x, scale_y):
    moved = bx.rbox_to_quad(box)[0] * [scale_x, scale_y]
    result = bx.rescale(torch.tensor([box], dtype=torch.float64), scale_x, scale_y).numpy()
    smallest = bx.quad_to_rbox([moved])[0]
    assert result[0, 2] * result[0, 3] == pytest.approx(smallest[2] * smallest[3], rel=1e-3, abs=1e-2)
    enclosing = Polygon(bx.rbox_to_quad(result)[0]).buffer(1e-6 * max(result[0, 2:4]) + 1e-6)
    assert enclosing.contains(Polygon(moved))


@pytest.mark.parametrize(
    ("degrees", "overlap", "direction"), [(30, 0.843, 49.11), (-30, 0.843, -49.11), (60, 0.909, 73.90)]
)
def test_a_box_stretched_to_twice_its_height(degrees, overlap, direction):
    box = torch.tensor([[200, 100, 80, 20, np.deg2rad(degrees)]], dtype=torch.float64)
    result = bx.rescale(box, 1.0, 2.0).numpy()
    moved = Polygon(bx.rbox_to_quad(box)[0] * [1, 2])
    found = Polygon(bx.rbox_to_quad(result)[0])
    assert found.intersection(moved).area / found.union(moved).area == pytest.approx(overlap, abs=1e-3)
    assert np.rad2deg(result[0, 4]) == pytest.approx(direction, abs=0.01)


def test_equal_factors_and_upright_boxes_keep_their_name():
    boxes = torch.tensor([[9, 8, 30, 10, 0.7], [9, 8, 10, 30, 0.0], [0, 0, 0, 0, 0.3]], dtype=torch.float64)
    doubled = bx.rescale(boxes, 2.0, 2.0)
    torch.testing.assert_close(doubled[:2], boxes[:2] * torch.tensor([2, 2, 2, 2, 1.0]))
    assert torch.isfinite(doubled).all()
    torch.testing.assert_close(
        bx.rescale(boxes[1:2], 3.0, 0.5), torch.tensor([[27, 4, 30, 15, 0.0]], dtype=torch.float64)
    )
    assert bx.rescale(torch.zeros(0, 5), 1.0, 2.0).shape == (0, 5)
