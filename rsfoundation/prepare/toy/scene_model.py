"""The parts of a toy scene in image pixels, before anything is drawn."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rsfoundation.prepare.toy.geometry import Box, Points, ellipse

Material = Literal["grass", "meadow", "soil", "field", "sand", "asphalt", "concrete", "gravel", "water"]
Kind = Literal["small-vehicle", "large-vehicle", "ship", "storage-tank"]
Roof = Literal["gable", "hip", "flat", "metal"]

KINDS: tuple[Kind, ...] = ("small-vehicle", "large-vehicle", "ship", "storage-tank")
DATES = 2  # a scene is drawn at two dates; all single-date tasks use the first

# Outlines in a box's own coordinates, head forwards; see Box.at.
_ROUNDED = [
    (0.5, -0.3),
    (0.5, 0.3),
    (0.43, 0.5),
    (-0.45, 0.5),
    (-0.5, 0.4),
    (-0.5, -0.4),
    (-0.45, -0.5),
    (0.43, -0.5),
]
_SQUARE = [(0.5, -0.42), (0.5, 0.42), (0.48, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.48, -0.5)]
_HULL = [
    (0.5, 0.0), (0.43, 0.2), (0.32, 0.4), (0.18, 0.5), (-0.42, 0.5), (-0.5, 0.34),
    (-0.5, -0.34), (-0.42, -0.5), (0.18, -0.5), (0.32, -0.4), (0.43, -0.2),
]  # fmt: skip


@dataclass(frozen=True)
class GroundRegion:
    """A piece of ground; later regions cover earlier ones of the same or a lower layer."""

    outline: Points
    material: Material
    seed: int
    angle: float = 0.0
    layer: int = 0


@dataclass(frozen=True)
class GroundLine:
    """Paint on the ground: a line, or dashes of length and gap ``dash``."""

    start: Points
    end: Points
    width: float
    tone: float = 225.0
    dash: float = 0.0


@dataclass(frozen=True)
class Tree:
    """A crown seen from above."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Building:
    """A house or hall.

    Attributes:
        box: Its oriented rectangle; the ridge runs along the length.
        outline: Footprint, clockwise.
        parts: Convex pieces that make up the footprint.
        dates: Whether it is there at each date.
    """

    box: Box
    outline: Points
    parts: tuple[Points, ...]
    height: float
    roof: Roof
    seed: int
    dates: tuple[bool, bool]


@dataclass(frozen=True)
class ObjectSlot:
    """A place that an object may take.

    Attributes:
        chance: Probability that it is taken at a date.
        wander: Shift in pixels, by which the object may be off its place.
        spin: Turn in radians, likewise.
        fixed: Taken alike at both dates.
        moving: A ship under way, with a wake.
    """

    kind: Kind
    box: Box
    chance: float
    wander: float = 1.0
    spin: float = 0.03
    fixed: bool = False
    moving: bool = False


@dataclass(frozen=True)
class SceneObject:
    """An object of a scene."""

    kind: Kind
    box: Box
    seed: int
    moving: bool = False

    def outline(self) -> Points:
        """Return the shape seen from above, clockwise."""
        if self.kind == "storage-tank":
            return ellipse(self.box.x, self.box.y, self.box.length / 2)
        shapes = {"small-vehicle": _ROUNDED, "large-vehicle": _SQUARE, "ship": _HULL}
        return self.box.at(shapes[self.kind])


@dataclass
class ScenePlan:
    """Everything that stays where it is, and the slots for what does not."""

    width: int
    height: int
    regions: list[GroundRegion] = field(default_factory=list)
    lines: list[GroundLine] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    buildings: list[Building] = field(default_factory=list)
    slots: list[ObjectSlot] = field(default_factory=list)

    def buildings_at(self, date: int) -> list[Building]:
        """Return the buildings of a date."""
        return [building for building in self.buildings if building.dates[date]]

    def clear_trees(self) -> None:
        """Fell the trees that would hide an object or a building."""
        boxes = [slot.box.grown(slot.wander if slot.wander < 20 else 0) for slot in self.slots]
        boxes += [building.box for building in self.buildings]
        self.trees = [tree for tree in self.trees if not _touches(tree, boxes)]


def _touches(tree: Tree, boxes: list[Box]) -> bool:
    if not boxes:
        return False
    x, y, length, width, heading = np.array(
        [(box.x, box.y, box.length, box.width, box.heading) for box in boxes]
    ).T
    dx, dy = tree.x - x, tree.y - y
    along = np.abs(dx * np.cos(heading) + dy * np.sin(heading)) - length / 2
    across = np.abs(dy * np.cos(heading) - dx * np.sin(heading)) - width / 2
    gap = np.hypot(along.clip(0), across.clip(0))
    return bool((gap < tree.radius * 1.15 + 1).any())
