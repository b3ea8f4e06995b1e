"""Class maps as cloud-optimised GeoTIFFs, and the style that QGIS opens next to them."""

from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rasterio")

import rasterio

from rsfoundation.io.cog import CogOptions, reduce_by_two, write_cog
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.styles import map_style
from rsfoundation.io.tile_rows import TileRows

PLACE = GeoReference("EPSG:32633", (0.5, 0.0, 500000.25, 0.0, -0.5, 5200000.75))


def make(folder, labels):
    height, width = labels.shape
    rows = TileRows(folder, height, width)
    for index in range(rows.count):
        top, bottom = rows.rows_of(index)
        rows.write(index, labels[top:bottom])
    palette = tuple((index * 40, 10, 200 - index * 20) for index in range(6))
    write_cog(rows, folder / "map.tif", CogOptions(PLACE, "mode", 255, palette))
    return folder / "map.tif"


def test_overviews_of_classes_invent_none_and_every_pixel_reads_back(tmp_path):
    """Of the classes 0 and 5, cubic overviews give 2 and 3; here each level has 0, 5 and no data alone."""
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([0, 5, 255], np.uint8), (1301, 1103), p=(0.5, 0.4, 0.1))
    file = make(tmp_path, labels)
    with rasterio.open(file) as made:
        assert made.transform[:6] == PLACE.transform and made.crs.to_epsg() == 32633 and made.nodata == 255
        assert made.block_shapes == [(512, 512)] and made.overviews(1) == [2, 4]
        np.testing.assert_array_equal(made.read(1), labels)
    for level in range(2):
        with rasterio.open(file, overview_level=level) as small:
            assert set(np.unique(small.read(1))) <= {0, 5, 255}
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.tif"]


def test_mode_takes_the_most_frequent_of_four():
    block = np.array([[1, 2, 7, 7], [2, 3, 4, 4], [5, 6, 9, 1], [6, 6, 8, 8]], np.uint8)
    np.testing.assert_array_equal(reduce_by_two(block, "mode", None), [[2, 7], [6, 8]])
    odd = reduce_by_two(np.array([[3, 3, 1]], np.uint8), "mode", None)
    np.testing.assert_array_equal(odd, [[3, 1]])


def test_an_average_leaves_no_data_out():
    block = np.array([[10, 255], [20, 255]], np.uint8)
    np.testing.assert_array_equal(reduce_by_two(block, "average", 255), [[15]])
    np.testing.assert_array_equal(reduce_by_two(np.full((2, 2), 255, np.uint8), "average", 255), [[255]])


def test_one_style_colours_the_map_and_the_polygons_of_its_name():
    root = ElementTree.fromstring(
        map_style([("road & rail", (1, 2, 3)), ("roof", (255, 0, 16))]).split("\n", 1)[1]
    )
    entries = [
        (entry.get("value"), entry.get("color"), entry.get("label")) for entry in root.iter("paletteEntry")
    ]
    assert entries == [("0", "#010203", "road & rail"), ("1", "#ff0010", "roof")]
    assert [category.get("value") for category in root.iter("category")] == ["road & rail", "roof"]
    fills = [option.get("value") for option in root.iter("Option") if option.get("name") == "color"]
    assert [fill.rsplit(",", 1)[0] for fill in fills] == ["1,2,3", "255,0,16"]
