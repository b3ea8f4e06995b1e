"""One scene: reproducible, and its labels follow the drawn shapes."""

import numpy as np
import pytest
import shapely

from rsfoundation.prepare.toy.geometry import polygon_mask, visible_share
from rsfoundation.prepare.toy.make import LAND_CLASSES, class_map
from rsfoundation.prepare.toy.planning import MIN_VISIBLE
from rsfoundation.prepare.toy.scene import Scene
from rsfoundation.prepare.toy.scene_model import KINDS

SIZE = 192
KEYS = [(3, "train", number) for number in range(1, 9)]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [Scene(key, SIZE, SIZE) for key in KEYS]


def index_of(name: str) -> int:
    return [land.name for land in LAND_CLASSES].index(name)


def test_same_key_gives_the_same_picture_and_another_key_another(scenes):
    again = Scene(KEYS[0], SIZE, SIZE)
    assert np.array_equal(scenes[0].image(0), again.image(0))
    assert np.array_equal(scenes[0].image(1), again.image(1))
    for key in ((4, "train", 1), (3, "val", 1), (3, "train", 2)):
        assert not np.array_equal(scenes[0].image(0), Scene(key, SIZE, SIZE).image(0))


def test_a_picture_does_not_depend_on_what_was_drawn_before():
    later_date_first = Scene(KEYS[1], SIZE, SIZE)
    later_date_first.image(1)
    assert np.array_equal(later_date_first.image(0), Scene(KEYS[1], SIZE, SIZE).image(0))


def test_scenes_of_any_size(scenes):
    image = Scene((0, "large", 1), 300, 210).image(0)
    assert image.shape == (210, 300, 3)
    assert image.dtype == np.uint8
    assert image.std() > 10  # not an empty picture


def test_objects_are_mostly_visible_and_do_not_overlap(scenes):
    for scene in scenes:
        boxes = [shapely.Polygon(thing.box.quad()) for thing in scene.objects[0]]
        for thing in scene.objects[0]:
            assert visible_share(thing.box.quad(), SIZE, SIZE) >= MIN_VISIBLE
        for number, box in enumerate(boxes):
            assert all(box.intersection(other).area < 0.05 for other in boxes[:number])


def test_all_kinds_occur_and_scenes_are_busy():
    scenes = [Scene((0, "train", number), 256, 256) for number in range(1, 31)]
    kinds = [thing.kind for scene in scenes for thing in scene.objects[0]]
    assert set(kinds) == set(KINDS)
    assert len(kinds) / len(scenes) > 8


def test_quads_start_at_the_head_and_run_clockwise(scenes):
    for thing in (thing for scene in scenes for thing in scene.objects[0]):
        quad = thing.box.quad()
        assert shapely.Polygon(quad).exterior.is_ccw  # y down: counter-clockwise is clockwise on screen
        head = quad[:2].mean(axis=0) - (thing.box.x, thing.box.y)
        assert np.arctan2(head[1], head[0]) == pytest.approx(np.angle(np.exp(1j * thing.box.heading)))


def test_outlines_lie_in_their_boxes(scenes):
    for thing in (thing for scene in scenes for thing in scene.objects[0]):
        box = shapely.Polygon(thing.box.quad()).buffer(0.2)
        assert box.contains(shapely.Polygon(thing.outline()))


def test_class_map_agrees_with_objects_buildings_and_trees(scenes):
    for scene in scenes:
        classes = class_map(scene)
        vehicles = np.zeros((SIZE, SIZE), dtype=bool)
        for thing in scene.objects[0]:
            if thing.kind.endswith("vehicle"):
                vehicles |= polygon_mask(thing.outline(), SIZE, SIZE)
        over = scene.building_mask(0) | scene.tree_mask
        assert np.array_equal(classes == index_of("car"), vehicles & ~over)
        assert np.array_equal(classes == index_of("building"), scene.building_mask(0) & ~scene.tree_mask)
        assert np.array_equal(classes == index_of("tree"), scene.tree_mask)


def test_vehicles_and_buildings_are_not_hidden(scenes):
    hidden = total = 0
    for scene in scenes:
        over = scene.building_mask(0) | scene.tree_mask
        for thing in scene.objects[0]:
            mask = polygon_mask(thing.outline(), SIZE, SIZE)
            hidden, total = hidden + int((mask & over).sum()), total + int(mask.sum())
    assert hidden < 0.01 * total


def test_change_is_the_difference_of_the_buildings():
    changed = 0
    for number in range(1, 13):
        scene = Scene((0, "train", number), SIZE, SIZE)
        lonely = [building for building in scene.plan.buildings if building.dates[0] != building.dates[1]]
        expected = np.zeros((SIZE, SIZE), dtype=bool)
        for building in lonely:
            expected |= polygon_mask(building.outline, SIZE, SIZE)
        assert np.array_equal(scene.change_mask(), expected)
        changed += int(expected.any())
    assert 3 <= changed < 12


def test_dates_differ_in_more_than_the_change(scenes):
    for scene in scenes[:4]:
        first, second = scene.image(0).astype(int), scene.image(1).astype(int)
        assert np.abs(first - second)[~scene.change_mask()].mean() > 3  # light, season, vehicles, noise


def test_roofs_are_where_the_mask_says():
    """The picture changes most inside the change mask."""
    inside, outside = [], []
    for number in range(1, 13):
        scene = Scene((0, "train", number), SIZE, SIZE)
        mask = scene.change_mask()
        if mask.sum() > 400:
            difference = np.abs(scene.image(0).astype(int) - scene.image(1).astype(int)).mean(axis=2)
            inside.append(difference[mask].mean())
            outside.append(difference[~mask].mean())
    assert np.mean(inside) > 1.3 * np.mean(outside)
