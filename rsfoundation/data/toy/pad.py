"""A sheet on which a block of a scene is planned in its own upright coordinates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rsfoundation.data.toy.elements import Building, Kind, Material, Plan, Region, Roof, Slot, Stripe, Tree
from rsfoundation.data.toy.geometry import Box, Frame, Points, rectangle

_SIZES: dict[Kind, tuple[tuple[float, float], tuple[float, float]]] = {
    "small-vehicle": ((18.5, 22), (8.8, 10.4)),  # (length from, to), (width from, to) in pixels
    "large-vehicle": ((36, 50), (11.5, 13.5)),
    "ship": ((48, 84), (14, 22)),
    "storage-tank": ((22, 38), (22, 38)),
}


class Pad:
    """Adds elements to a plan; all coordinates are relative to the centre of the block.

    Attributes:
        width: Size of the block along its x.
        height: Size along its y.
        rng: Where all decisions of the block come from.
        change_rate: Share of the buildings that stand at only one of the dates.
    """

    def __init__(
        self,
        plan: Plan,
        frame: Frame,
        size: tuple[float, float],
        rng: np.random.Generator,
        change_rate: float,
    ) -> None:
        self.plan, self.frame, self.rng, self.change_rate = plan, frame, rng, change_rate
        self.width, self.height = size

    @property
    def left(self) -> float:
        """Left edge; the right one is its opposite."""
        return -self.width / 2

    @property
    def top(self) -> float:
        """Top edge; the bottom is its opposite."""
        return -self.height / 2

    def part(self, x: float, y: float, width: float, height: float) -> "Pad":
        """Return a pad for a part of the block around ``x, y``."""
        return Pad(self.plan, self.frame.child(x, y, 0.0), (width, height), self.rng, self.change_rate)

    def seed(self) -> int:
        """Return a seed for the looks of one element."""
        return int(self.rng.integers(2**31))

    def area(
        self, left: float, top: float, right: float, bottom: float, material: Material, *, layer: int = 0
    ) -> None:
        """Cover an upright rectangle."""
        self.shape(rectangle(left, top, right, bottom), material, layer=layer)

    def cover(self, material: Material, margin: float = 0.0, angle: float = 0.0) -> None:
        """Cover the block up to ``margin`` from its edges."""
        right, bottom = -self.left - margin, -self.top - margin
        self.shape(rectangle(-right, -bottom, right, bottom), material, angle=angle)

    def shape(self, points: ArrayLike, material: Material, *, layer: int = 0, angle: float = 0.0) -> None:
        """Cover a polygon; ``angle`` is the direction of furrows or waves."""
        outline = self.frame.out(points)
        self.plan.regions.append(Region(outline, material, self.seed(), self.frame.angle + angle, layer))

    def line(
        self,
        start: Sequence[float],
        end: Sequence[float],
        width: float = 1.2,
        tone: float = 225.0,
        dash: float = 0.0,
    ) -> None:
        """Paint a line on the ground."""
        self.plan.stripes.append(Stripe(self.frame.out(start), self.frame.out(end), width, tone, dash))

    def tree(self, x: float, y: float, radius: float) -> None:
        """Plant a tree."""
        self.plan.trees.append(Tree(*self.frame.point(x, y), radius))

    def box(self, x: float, y: float, length: float, width: float, heading: float) -> Box:
        """Return a box of the block in image pixels."""
        return Box(*self.frame.point(x, y), length, width, self.frame.angle + heading)

    def size_of(self, kind: Kind) -> tuple[float, float]:
        """Draw the length and width of an object."""
        length, width = (self.rng.uniform(*limits) for limits in _SIZES[kind])
        return (length, length) if kind == "storage-tank" else (length, width)

    def slot(
        self,
        kind: Kind,
        x: float,
        y: float,
        heading: float,
        chance: float,
        *,
        size: tuple[float, float] | None = None,
        wander: float = 1.0,
        spin: float = 0.03,
        moving: bool = False,
    ) -> None:
        """Mark a place where an object may stand."""
        length, width = size or self.size_of(kind)
        fixed = kind == "storage-tank"
        if fixed:
            heading = -self.frame.angle  # round: its box is upright, as in DOTA
        box = self.box(x, y, length, width, heading)
        self.plan.slots.append(
            Slot(kind, box, chance, 0 if fixed else wander, 0 if fixed else spin, fixed, moving)
        )

    def building(
        self,
        x: float,
        y: float,
        length: float,
        width: float,
        *,
        heading: float = 0.0,
        roof: Roof,
        height: float,
        lasting: bool = False,
    ) -> None:
        """Put up a building; unless ``lasting``, it may be missing at one of the dates."""
        box = self.box(x, y, length, width, heading)
        pieces = [(-0.5, -0.5, 0.5, 0.5)]
        corners = rectangle(-0.5, -0.5, 0.5, 0.5)
        if roof == "flat" and self.rng.random() < 0.4:  # L-shaped
            cut_x, cut_y = self.rng.uniform(-0.1, 0.2), self.rng.uniform(-0.1, 0.15)
            pieces = [(-0.5, -0.5, cut_x, 0.5), (cut_x, -0.5, 0.5, cut_y)]
            corners = np.array(
                [(-0.5, -0.5), (0.5, -0.5), (0.5, cut_y), (cut_x, cut_y), (cut_x, 0.5), (-0.5, 0.5)]
            )
        parts: tuple[Points, ...] = tuple(box.at(rectangle(*piece)) for piece in pieces)
        fate, direction = self.rng.random(2)
        dates = (
            (direction < 0.5, direction >= 0.5) if fate < self.change_rate and not lasting else (True, True)
        )
        self.plan.buildings.append(Building(box, box.at(corners), parts, height, roof, self.seed(), dates))
