"""Panels and legends keep the pictures whole."""

import numpy as np

from rsfoundation.visualization import add_legend, magnification, magnify, side_by_side


def grey(height, width, value=80):
    return np.full((height, width, 3), value, np.uint8)


def test_magnification_enlarges_small_pictures_only():
    assert magnification(grey(256, 320), least=640) == 2.5
    assert magnification(grey(2000, 700), least=640) == 1.0
    assert magnify(grey(256, 320), 2.5).shape == (640, 800, 3)
    large = grey(700, 700)
    assert magnify(large, 1.0) is large


def test_panels_of_unequal_height():
    row = side_by_side([("ground truth", grey(50, 60)), ("prediction", grey(80, 40, 30))])
    assert row.shape[0] == 110 and row.shape[1] == 60 + 8 + 40
    assert (row[30:80, :60] == 80).all() and (row[30:110, 68:] == 30).all()
    assert row[:30, :60].min() < 100, "the caption must be written"


def test_legend_breaks_lines_and_keeps_the_picture():
    picture = grey(40, 200)
    entries = [(f"a long class name {index}", (250, 10 * index, 0)) for index in range(6)]
    drawn = add_legend(picture, entries)
    np.testing.assert_array_equal(drawn[:40], picture)
    assert drawn.shape[0] == 40 + 6 * 30
    for _, colour in entries:
        assert (drawn == colour).all(axis=-1).any()


def test_empty_legend_adds_nothing():
    assert add_legend(grey(10, 10), []).shape == (10, 10, 3)
