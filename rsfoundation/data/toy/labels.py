"""Class maps of a scene in ISPRS's six classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.toy.elements import Material
from rsfoundation.data.toy.geometry import polygon_mask
from rsfoundation.data.toy.scene import Scene


class LandClass(NamedTuple):
    """A class and its colour (RGB)."""

    name: str
    colour: tuple[int, int, int]


LAND_CLASSES = (
    LandClass("impervious_surface", (255, 255, 255)),
    LandClass("building", (0, 0, 255)),
    LandClass("low_vegetation", (0, 255, 255)),
    LandClass("tree", (0, 255, 0)),
    LandClass("car", (255, 255, 0)),
    LandClass("clutter", (255, 0, 0)),
)
_INDEX = {land.name: index for index, land in enumerate(LAND_CLASSES)}

_MATERIALS: dict[Material, str] = {
    "asphalt": "impervious_surface",
    "concrete": "impervious_surface",
    "gravel": "impervious_surface",
    "grass": "low_vegetation",
    "meadow": "low_vegetation",
    "field": "low_vegetation",
    "soil": "low_vegetation",
    "sand": "clutter",
    "water": "clutter",
}
_THINGS = {"small-vehicle": "car", "large-vehicle": "car", "ship": "clutter", "storage-tank": "clutter"}


def class_map(scene: Scene) -> NDArray[np.uint8]:
    """Return the class index ``(H, W)`` of every pixel at the first date, by :data:`LAND_CLASSES`."""
    width, height = scene.plan.width, scene.plan.height
    classes = np.full((height, width), _INDEX["impervious_surface"], dtype=np.uint8)
    for region in scene.plan.regions:
        classes[polygon_mask(region.outline, width, height)] = _INDEX[_MATERIALS[region.material]]
    for thing in scene.things[0]:
        classes[polygon_mask(thing.outline(), width, height)] = _INDEX[_THINGS[thing.kind]]
    classes[scene.building_mask(0)] = _INDEX["building"]
    classes[scene.tree_mask] = _INDEX["tree"]
    return classes
