"""Windows cover every pixel, stay inside, and overlap as asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsfoundation.core.errors import ConfigError
from rsfoundation.geometry.windows import window_grid


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 120), st.data())
def test_windows_cover_the_scene_and_stay_inside(height, width, size, data):
    overlap = data.draw(st.integers(0, size - 1).filter(lambda value: size - value >= 5 or size < 6))
    seen = np.zeros((height, width), int)
    for window in window_grid(height, width, size, overlap):
        assert window.left >= 0 and window.top >= 0
        assert window.left + window.width <= width and window.top + window.height <= height
        seen[window.top : window.top + window.height, window.left : window.left + window.width] += 1
    assert seen.min() >= 1


def test_neighbours_overlap_at_least_as_asked():
    lefts = sorted({window.left for window in window_grid(100, 1000, 256, 64)})
    assert lefts == [0, 192, 384, 576, 744]


def test_a_small_scene_is_one_window():
    (window,) = window_grid(50, 70, 256, 64)
    assert (window.left, window.top, window.width, window.height) == (0, 0, 70, 50)


def test_an_overlap_without_a_step_is_an_error():
    with pytest.raises(ConfigError, match="cannot overlap"):
        window_grid(10, 10, 64, 64)
