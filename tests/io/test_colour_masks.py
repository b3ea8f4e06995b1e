from pathlib import Path

import numpy as np
import pytest

from rsfoundation.io.label_images import LabelImage, as_palette, decode_colours, unknown_label_error

PALETTE = as_palette([[255, 255, 255], [0, 0, 255], [255, 0, 0]])


def test_colours_become_indices():
    labels = np.random.default_rng(0).integers(0, 3, (20, 30))
    mask = np.array(PALETTE, np.uint8)[labels]
    np.testing.assert_array_equal(decode_colours(mask, PALETTE), labels)


@pytest.mark.parametrize("near", [(254, 255, 255), (0, 0, 254), (255, 1, 0), (0, 0, 0)])
def test_a_colour_one_step_off_is_unknown(near):
    assert decode_colours(np.array([[near]], np.uint8), PALETTE).tolist() == [[255]]


def test_error_names_value_place_and_count():
    mask = np.full((4, 5, 3), 255, np.uint8)
    mask[2, 3] = mask[3, 0] = (9, 8, 7)
    image = LabelImage(mask, Path("tile.tif"), "RGB")
    error = unknown_label_error(image, decode_colours(mask, PALETTE) == 255, PALETTE)
    assert "2 pixels" in error.what and "(9, 8, 7) at column 3, row 2" in error.what
    assert error.where == "tile.tif" and "ignore" in error.fix
