"""Window grids and object placement, by worked figures and against mmrotate's own splitter."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfoundation.core.errors import ConfigError
from rsfoundation.geometry.windows import Tile, object_areas, place_objects, tile_grid

sides = st.integers(1, 700)


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def test_the_last_window_is_shifted_back_inside():
    tiles = tile_grid(2000, 1100, window=1024, gap=200)
    assert [(tile.x, tile.y) for tile in tiles] == [(0, 0), (824, 0), (976, 0), (0, 76), (824, 76), (976, 76)]


def test_a_rate_changes_the_window():
    tiles = tile_grid(3000, 3000, window=1024, gap=500, rates=(0.5, 1.0, 1.5))
    assert {tile.size for tile in tiles} == {2048, 1024, 682}
    first = [tile.x for tile in tiles if tile.size == 682 and tile.y == 0]
    assert first[1] - first[0] == 682 - 333


def test_hardly_filled_windows_are_left_out_unless_all_are():
    assert [tile.size for tile in tile_grid(700, 700, window=1024, gap=500, rates=(0.5, 1.0, 1.5))] == [
        682
    ] * 4
    assert tile_grid(500, 300, window=1024, gap=200) == [Tile(0, 0, 1024)]
    assert tile_grid(1024, 614, window=1024, gap=200) == [Tile(0, 0, 1024)]  # 0.5996 of it: all there is


@settings(max_examples=100, deadline=None)
@given(sides, sides, st.integers(20, 300), st.floats(0, 0.9))
def test_windows_cover_the_image(width, height, window, share):
    tiles = tile_grid(width, height, window=window, gap=int(window * share), min_image_share=0)
    covered = np.zeros((height, width), dtype=bool)
    for tile in tiles:
        assert tile.x >= 0 and tile.y >= 0
        assert tile.x + tile.size <= max(width, window) and tile.y + tile.size <= max(height, window)
        covered[tile.y : tile.y + tile.size, tile.x : tile.x + tile.size] = True
    assert covered.all()
    assert len(set(tiles)) == len(tiles)


@settings(max_examples=50, deadline=None)
@given(st.integers(100, 700), st.integers(100, 700), st.data())
def test_an_object_within_the_gap_is_whole_in_some_window(width, height, data):
    x = data.draw(st.floats(0, width - 30))
    y = data.draw(st.floats(0, height - 30))
    tiles = tile_grid(width, height, window=128, gap=32, min_image_share=0)
    placements = place_objects([square(x, y, 29)], tiles)
    assert any(placement.truncated == (False,) for placement in placements)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (dict(window=100, gap=100), "cannot share"),
        (dict(window=100, gap=-1), "cannot share"),
        (dict(window=0, gap=0), "windows of 0 px"),
        (dict(window=1024, gap=200, rates=(1, 1e-4)), "windows of 10240000 px"),
        (dict(window=10, gap=1, rates=(1, 0)), "scale rate is 0"),
        (dict(window=10, gap=1, rates=(float("nan"),)), "scale rate is nan"),
        (dict(window=10, gap=1, rates=(float("inf"),)), "scale rate is inf"),
    ],
)
def test_senseless_windows_are_refused(options, what):
    with pytest.raises(ConfigError, match=what):
        tile_grid(10, 10, **options)


def test_placement_by_share_of_the_object():
    tile = Tile(100, 0, 100)
    objects = [square(x, 10, 20) for x in (93, 94, 100, 150, 187, 250)]  # shares .65 .7 1 1 .65 0
    (placement,) = place_objects(objects, [tile])
    assert placement.index == (1, 2, 3)
    assert placement.truncated == (True, False, False)
    (generous,) = place_objects(objects, [tile], min_share=0.5)
    assert generous.index == (0, 1, 2, 3, 4)


def test_odd_quads():
    flat, point = [0, 0, 10, 0, 20, 0, 30, 0], [5, 5] * 4
    crossed = [0, 0, 10, 10, 10, 0, 0, 10]  # corners in the order of a bow tie
    assert object_areas([flat, point, crossed]).tolist() == [0, 0, 100]
    (placement,) = place_objects([flat, point, crossed], [Tile(0, 0, 50)])
    assert placement.index == (2,)
    assert place_objects([], [Tile(0, 0, 50)])[0].index == ()


def _mmrotate_splitter():
    spec = importlib.util.find_spec("mmrotate")
    path = Path(spec.submodule_search_locations[0]) / ".mim/tools/data/dota/split/img_split.py"
    if not path.is_file():
        pytest.skip("this mmrotate comes without its tools")
    module_spec = importlib.util.spec_from_file_location("img_split", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", [(712, 557), (1111, 1182), (4000, 800), (300, 5000)])
@pytest.mark.parametrize(("gap", "rates"), [(200, (1.0,)), (500, (0.5, 1.0, 1.5))])
def test_windows_and_objects_are_those_of_mmrotate(size, gap, rates):
    tool = _mmrotate_splitter()
    rng = np.random.default_rng(size[0])
    windows = tool.get_sliding_window(
        dict(width=size[0], height=size[1]),
        [int(1024 / r) for r in rates],
        [int(gap / r) for r in rates],
        0.6,
    )
    tiles = tile_grid(*size, window=1024, gap=gap, rates=rates)
    expected = {Tile(int(x), int(y), int(x2 - x)): row for row, (x, y, x2, _) in enumerate(windows)}
    assert set(tiles) == set(expected)

    # whole numbers: mmrotate rounds areas to float32, and then takes some whole objects for cut ones
    centre = rng.integers(0, size, (200, 1, 2))
    corners = centre + rng.integers(5, 200, (200, 1, 2)) * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    quads = corners.reshape(-1, 8).astype(np.float32)
    anns = tool.get_window_obj(
        dict(ann=dict(bboxes=quads, number=np.arange(len(quads)))), windows.astype(np.float32), 0.7
    )
    for tile, placement in zip(tiles, place_objects(quads, tiles), strict=True):
        ann = anns[expected[tile]]
        assert placement.index == tuple(ann["number"])
        assert placement.truncated == tuple(ann["trunc"])


@settings(max_examples=25)
@given(st.integers(100, 500), st.integers(100, 500), st.integers(0, 2**31))
def test_placement_is_that_of_the_definition(width, height, seed):
    """Every pair of object and window by itself, with shapely; touching and turned objects among them."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (30, 4)), axis=1)
    spread = rng.uniform(3, 60, (30, 1))
    centres = rng.integers(-20, 520, (30, 1, 2))
    quads = centres + np.stack([np.cos(angles) * spread, np.sin(angles) * spread], axis=2)
    tiles = tile_grid(width, height, window=128, gap=32, rates=(1.0, 0.5))
    for tile, placement in zip(tiles, place_objects(quads, tiles), strict=True):
        window = shapely.box(tile.x, tile.y, tile.x + tile.size, tile.y + tile.size)
        shapes = [shapely.Polygon(quad) for quad in quads]
        shares = np.array([shape.intersection(window).area / shape.area for shape in shapes])
        assert set(placement.index) <= set(np.flatnonzero(shares >= 0.7 - 1e-9))
        assert set(placement.index) >= set(np.flatnonzero(shares >= 0.7 + 1e-9))
        assert all(cut == (shares[index] < 1 - 1e-6) for index, cut in zip(*_columns(placement), strict=True))


def _columns(placement):
    return placement.index, placement.truncated
