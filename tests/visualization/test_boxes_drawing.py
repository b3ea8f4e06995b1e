"""Outlines lie where the corners say, and tags stay inside the picture."""

import numpy as np
import pytest

from rsfoundation.visualization import draw_boxes, draw_tags

RED = (255, 0, 0)
SQUARE = np.array([[(20, 20), (60, 20), (60, 60), (20, 60)]], dtype=float)


@pytest.fixture
def picture():
    return np.full((100, 120, 3), 90, np.uint8)


def test_outline_on_the_corners_and_nowhere_else(picture):
    drawn = draw_boxes(picture, SQUARE, [RED])
    np.testing.assert_allclose(drawn[[20, 40], [40, 60]], [RED, RED], atol=40)  # anti-aliased
    assert tuple(drawn[40, 40]) == (90, 90, 90) == tuple(drawn[90, 110])
    assert (picture == 90).all(), "the input must stay untouched"


def test_no_heading_mark(picture):
    rolled = np.roll(SQUARE, 2, axis=1)
    np.testing.assert_allclose(
        draw_boxes(picture, SQUARE, [RED]).astype(int), draw_boxes(picture, rolled, [RED]), atol=3
    )


def test_boxes_may_leave_the_picture(picture):
    assert draw_boxes(picture, SQUARE - 45, [RED], ["ship"]).shape == picture.shape


def test_no_boxes(picture):
    np.testing.assert_array_equal(draw_boxes(picture, np.zeros((0, 4, 2)), [], []), picture)


def test_tags_are_left_out_when_they_would_hide_everything(picture):
    quads = np.repeat(SQUARE, 41, axis=0)
    colours = [RED] * 41
    plain = draw_boxes(picture, quads, colours)
    np.testing.assert_array_equal(draw_boxes(picture, quads, colours, ["ship"] * 41), plain)
    assert (draw_boxes(picture, quads[:40], colours[:40], ["ship"] * 40) != plain).any()


@pytest.mark.parametrize("position", [(-50, -50), (500, 500)])
def test_tag_is_pulled_inside(picture, position):
    drawn = draw_tags(picture, ["ship"], np.array([position]), [RED])
    assert (drawn == RED).all(axis=-1).sum() > 100


def test_text_is_dark_on_bright_plates_and_bright_on_dark_ones(picture):
    bright = draw_tags(picture, ["MMM"], np.array([(10, 50)]), [(255, 255, 0)])
    dark = draw_tags(picture, ["MMM"], np.array([(10, 50)]), [(0, 0, 120)])
    assert bright.min() < 60 and dark.max() > 200


def test_a_plate_never_covers_an_earlier_one(picture):
    green = (0, 255, 0)
    one = draw_tags(picture, ["ship"], np.array([(20, 50)]), [RED])
    both = draw_tags(
        picture, ["ship", "ship", "far"], np.array([(20, 50), (25, 55), (20, 90)]), [RED, green, green]
    )
    np.testing.assert_array_equal(both[:60], one[:60])
    assert (both[60:] == green).all(axis=-1).any()
