"""City blocks on land: each function fills a block with one kind of place."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rsfoundation.prepare.toy.geometry import Box, Frame, Points, rectangle
from rsfoundation.prepare.toy.scene_model import (
    Building,
    GroundLine,
    GroundRegion,
    Kind,
    Material,
    ObjectSlot,
    Roof,
    ScenePlan,
    Tree,
)

_SIZES: dict[Kind, tuple[tuple[float, float], tuple[float, float]]] = {
    "small-vehicle": ((18.5, 22), (8.8, 10.4)),  # (length from, to), (width from, to) in pixels
    "large-vehicle": ((36, 50), (11.5, 13.5)),
    "ship": ((48, 84), (14, 22)),
    "storage-tank": ((22, 38), (22, 38)),
}


class BlockBuilder:
    """Adds elements to a plan; all coordinates are relative to the centre of the block.

    Attributes:
        width: Size of the block along its x.
        height: Size along its y.
        rng: Where all decisions of the block come from.
        change_rate: Share of the buildings that are there at only one of the dates.
    """

    def __init__(
        self,
        plan: ScenePlan,
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

    def part(self, x: float, y: float, width: float, height: float) -> "BlockBuilder":
        """Return a builder for a part of the block around ``x, y``.

        Args:
            x: Centre of the part.
            y: Centre.
            width: Of the part.
            height: Of the part.
        """
        return BlockBuilder(
            self.plan, self.frame.child(x, y, 0.0), (width, height), self.rng, self.change_rate
        )

    def seed(self) -> int:
        """Return a seed for the appearance of one element."""
        return int(self.rng.integers(2**31))

    def area(
        self, left: float, top: float, right: float, bottom: float, material: Material, *, layer: int = 0
    ) -> None:
        """Cover an upright rectangle.

        Args:
            left: Smallest x.
            top: Smallest y.
            right: Largest x.
            bottom: Largest y.
            material: Of the ground.
            layer: Higher layers cover lower ones.
        """
        self.shape(rectangle(left, top, right, bottom), material, layer=layer)

    def cover(self, material: Material, margin: float = 0.0, angle: float = 0.0) -> None:
        """Cover the block up to ``margin`` from its edges.

        Args:
            material: Of the ground.
            margin: In pixels.
            angle: Direction of furrows or waves.
        """
        right, bottom = -self.left - margin, -self.top - margin
        self.shape(rectangle(-right, -bottom, right, bottom), material, angle=angle)

    def shape(self, points: ArrayLike, material: Material, *, layer: int = 0, angle: float = 0.0) -> None:
        """Cover a polygon; ``angle`` is the direction of furrows or waves.

        Args:
            points: Corners.
            material: Of the ground.
            layer: Higher layers cover lower ones.
            angle: Direction of furrows or waves.
        """
        outline = self.frame.out(points)
        self.plan.regions.append(
            GroundRegion(outline, material, self.seed(), self.frame.angle + angle, layer)
        )

    def line(
        self,
        start: Sequence[float],
        end: Sequence[float],
        width: float = 1.2,
        tone: float = 225.0,
        dash: float = 0.0,
    ) -> None:
        """Paint a line on the ground.

        Args:
            start: One end.
            end: The other end.
            width: In pixels.
            tone: Grey level.
            dash: Length of dashes and gaps; 0 is a full line.
        """
        self.plan.lines.append(GroundLine(self.frame.out(start), self.frame.out(end), width, tone, dash))

    def tree(self, x: float, y: float, radius: float) -> None:
        """Plant a tree.

        Args:
            x: Centre.
            y: Centre.
            radius: Of the crown in pixels.
        """
        self.plan.trees.append(Tree(*self.frame.point(x, y), radius))

    def box(self, x: float, y: float, length: float, width: float, heading: float) -> Box:
        """Return a box of the block in image pixels.

        Args:
            x: Centre.
            y: Centre.
            length: Along the heading.
            width: Across it.
            heading: Relative to the block, in radians.
        """
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
        """Mark a place that an object may take.

        Args:
            kind: Of the object.
            x: Centre.
            y: Centre.
            heading: Relative to the block, in radians.
            chance: Probability that the place is taken at a date.
            size: Length and width; drawn where not given.
            wander: Largest shift in pixels.
            spin: Largest turn in radians.
            moving: A ship under way.
        """
        length, width = size or self.size_of(kind)
        fixed = kind == "storage-tank"
        if fixed:
            heading = -self.frame.angle  # round: its box is upright, as in DOTA
        box = self.box(x, y, length, width, heading)
        self.plan.slots.append(
            ObjectSlot(kind, box, chance, 0 if fixed else wander, 0 if fixed else spin, fixed, moving)
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
        """Put up a building; unless ``lasting``, it may be missing at one of the dates.

        Args:
            x: Centre.
            y: Centre.
            length: Of the footprint.
            width: Of the footprint.
            heading: Relative to the block, in radians.
            roof: Its kind.
            height: Of the walls in pixels.
            lasting: Whether it is there at both dates.
        """
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


_UP, _DOWN = -np.pi / 2, np.pi / 2
_STALL, _DEPTH, _AISLE, _LANE = 13.5, 24.0, 30.0, 28.0  # pixels; a pixel is about 0.22 m


def parking(block: BlockBuilder) -> None:
    """Car park: double rows of stalls between aisles, often with a shop at one side."""
    rng = block.rng
    block.cover("grass")
    block.cover("asphalt", 5)
    top = block.top + 10
    if block.height > 150 and rng.random() < 0.75:
        depth = rng.uniform(40, 62)
        length = block.width * rng.uniform(0.5, 0.85)
        block.building(0, top + depth / 2, length, depth, roof="flat", height=rng.uniform(16, 26))
        top += depth + _AISLE * 0.7
    while top + 2 * _DEPTH < -block.top - 6:
        _double_row(block, top, rng.uniform(0.25, 0.75))
        top += 2 * _DEPTH + _AISLE


def _double_row(block: BlockBuilder, top: float, chance: float) -> None:
    left, middle = block.left + 24, top + _DEPTH
    count = int((block.width - 48) / _STALL)
    block.line((left, middle), (left + count * _STALL, middle))
    for stall in range(count + 1):
        x = left + stall * _STALL
        block.line((x, top), (x, top + 2 * _DEPTH))
        if stall == count:
            break
        if stall % 11 == 5:
            block.area(x + 1, top + 2, x + _STALL - 1, top + 2 * _DEPTH - 2, "grass", layer=3)
            block.tree(x + _STALL / 2, middle + block.rng.uniform(-12, 12), block.rng.uniform(5, 8))
            continue
        for y in (middle - _DEPTH / 2, middle + _DEPTH / 2):
            block.slot("small-vehicle", x + _STALL / 2, y, float(block.rng.choice([_UP, _DOWN])), chance)


def depot(block: BlockBuilder) -> None:
    """Freight yard: a hall with trucks at its docks, and rows of parked trucks."""
    rng = block.rng
    block.cover("grass")
    block.cover("concrete" if rng.random() < 0.6 else "asphalt", 4)
    depth = min(rng.uniform(50, 80), block.height * 0.4)
    top = block.top + 8 + depth
    block.building(
        0,
        top - depth / 2,
        block.width * rng.uniform(0.7, 0.92),
        depth,
        roof="metal",
        height=rng.uniform(20, 30),
    )
    _truck_row(block, top + 29, _DOWN, rng.uniform(0.3, 0.7))
    top += 90
    while top + 54 < -block.top:
        _truck_row(block, top + 27, float(rng.choice([_UP, _DOWN])), rng.uniform(0.3, 0.75), lines=True)
        top += 92
    for x in np.arange(block.left + 30, -block.left - 30, 26):
        block.slot("small-vehicle", x, -block.top - 10, 0.0, 0.2)


def _truck_row(block: BlockBuilder, y: float, heading: float, chance: float, lines: bool = False) -> None:
    for x in np.arange(block.left + 28, -block.left - 28, 19.0):
        if lines:
            block.line((x - 9.5, y - 26), (x - 9.5, y + 26), tone=215)
        block.slot("large-vehicle", x, y, heading, chance)


def tank_farm(block: BlockBuilder) -> None:
    """Storage tanks in rows, each row inside its wall, with a service road."""
    rng = block.rng
    block.cover("meadow")
    block.cover("gravel" if rng.random() < 0.6 else "concrete", 4)
    road = block.top + 20
    block.area(block.left, road - 13, -block.left, road + 13, "asphalt", layer=2)
    for x in np.arange(block.left + 30, -block.left - 30, 48):
        kind: Kind = "large-vehicle" if rng.random() < 0.5 else "small-vehicle"
        block.slot(kind, x, road + float(rng.choice([-6.5, 6.5])), 0.0, 0.45, wander=2)
    top, wall = road + 20, rng.uniform(105, 185)
    while True:
        diameter = rng.uniform(22, 38)
        pitch = diameter + rng.uniform(9, 16)
        if top + pitch > -block.top - 4:
            break
        count = int((block.width - 20) / pitch)
        side = count * pitch / 2
        for y in (top, top + pitch):
            block.line((-side, y), (side, y), 1.4, tone=wall)
        for x in (-side, side):
            block.line((x, top), (x, top + pitch), 1.4, tone=wall)
        for index in range(count):
            size = max(20, diameter * rng.uniform(0.88, 1.0))
            x = (index - (count - 1) / 2) * pitch
            block.slot("storage-tank", x, top + pitch / 2, 0.0, 0.85, size=(size, size))
        top += pitch + rng.uniform(4, 22)


def houses(block: BlockBuilder) -> None:
    """Housing: double rows of parcels with a house, a drive and trees each, and lanes between them."""
    count = max(1, int(block.height / 165))
    depth = (block.height - (count - 1) * _LANE) / count
    for number in range(count):
        y = block.top + depth / 2 + number * (depth + _LANE)
        _parcels(block.part(0, y, block.width, depth))
        if number:
            _lane(block.part(0, y - (depth + _LANE) / 2, block.width, _LANE))


def _lane(block: BlockBuilder) -> None:
    block.cover("asphalt")
    for x in np.arange(block.left + 20, -block.left - 20, 30):
        block.slot("small-vehicle", x, float(block.rng.choice([-7, 7])), 0.0, 0.3, wander=2)


def _parcels(block: BlockBuilder) -> None:
    """Plan two rows of parcels, back to back."""
    rng = block.rng
    block.cover("grass")
    for side in (-1, 1):
        x = block.left + 4
        while x + 62 < -block.left:
            parcel = rng.uniform(62, 84)
            _parcel(block, x, min(parcel, -block.left - x), side)
            x += parcel
    block.line((block.left, 0), (-block.left, 0), 1.5, tone=120)


def _parcel(block: BlockBuilder, left: float, width: float, side: int) -> None:
    """Plan one parcel; ``side`` -1 faces the top edge of the block, 1 the bottom."""
    rng = block.rng
    depth = min(rng.uniform(36, 50), block.height / 2 - 36)
    length = min(width - 24, rng.uniform(40, 58))
    front = side * (-block.top - rng.uniform(28, 34))
    y = front - side * depth / 2
    x = left + 18 + length / 2
    roof: Roof = _choose(rng, ("gable", "hip", "gable", "flat"))
    if rng.random() < 0.4:
        block.area(
            x - length / 2 - 4, y - depth / 2 - 4, x + length / 2 + 4, y + depth / 2 + 4, "soil", layer=1
        )
    if length >= depth:
        block.building(x, y, length, depth, roof=roof, height=rng.uniform(14, 20))
    else:
        block.building(x, y, depth, length, heading=_DOWN, roof=roof, height=rng.uniform(14, 20))
    drive = left + 9
    edge = -side * block.top
    block.area(drive - 7, min(edge, y), drive + 7, max(edge, y), "concrete", layer=1)
    for offset in (14, 38):
        block.slot("small-vehicle", drive, edge - side * offset, float(rng.choice([_UP, _DOWN])), 0.5)
    block.line((left, 0), (left, edge), 1.2, tone=125)
    for _ in range(int(rng.integers(1, 5))):
        block.tree(
            left + rng.uniform(4, width - 4), side * rng.uniform(8, -block.top - 8), rng.uniform(6, 13)
        )


def _choose(rng: np.random.Generator, options: tuple[Roof, ...]) -> Roof:
    """Choose one of the roofs."""
    return options[int(rng.integers(len(options)))]


def farmland(block: BlockBuilder) -> None:
    """Fields with furrows, a hedge, and a barn with its yard."""
    rng = block.rng
    block.cover("meadow")
    split = rng.uniform(-0.2, 0.2) * block.width
    for left, right in ((block.left + 5, split - 4), (split + 4, -block.left - 5)):
        angle = float(rng.choice([0.0, np.pi / 2]))
        corners = [
            (left, block.top + 5),
            (right, block.top + 5),
            (right, -block.top - 5),
            (left, -block.top - 5),
        ]
        block.shape(corners, "field" if rng.random() < 0.8 else "meadow", angle=angle)
    for y in np.arange(block.top, -block.top, 11):
        if rng.random() < 0.7:
            block.tree(split + rng.normal(0, 2), y, rng.uniform(5, 9))
    x, y = block.left + 50, -block.top - 44
    block.area(block.left + 4, y - 36, block.left + 104, -block.top, "gravel", layer=1)
    block.building(x, y - 12, 56, 30, roof="gable", height=18)
    for step in range(4):
        block.slot("small-vehicle", x - 30 + 22 * step, y + 24, _UP, 0.5, spin=0.5)


def woods(block: BlockBuilder) -> None:
    """Trees in groups on a meadow, with a path."""
    rng = block.rng
    block.cover("grass" if rng.random() < 0.5 else "meadow")
    bend = rng.uniform(-0.3, 0.3) * block.height
    steps = np.linspace(block.left, -block.left, 12)
    path = bend * np.sin(steps / block.width * np.pi * 2)
    block.shape(np.concatenate([np.c_[steps, path - 4], np.c_[steps, path + 4][::-1]]), "soil", layer=1)
    for _ in range(int(block.width * block.height / 3200)):
        x, y = rng.uniform(block.left, -block.left), rng.uniform(block.top, -block.top)
        if abs(y - np.interp(x, steps, path)) < 14:
            continue
        for _ in range(int(rng.integers(1, 6))):
            block.tree(x + rng.normal(0, 13), y + rng.normal(0, 13), rng.uniform(7, 14))
