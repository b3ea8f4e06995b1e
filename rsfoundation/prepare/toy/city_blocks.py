"""Blocks on land: each function fills a pad with one kind of place."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rsfoundation.prepare.toy.geometry import Box, Frame, Points, rectangle
from rsfoundation.prepare.toy.objects import Building, Kind, Material, Plan, Region, Roof, Slot, Stripe, Tree

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


_UP, _DOWN = -np.pi / 2, np.pi / 2
_STALL, _DEPTH, _AISLE, _LANE = 13.5, 24.0, 30.0, 28.0  # pixels; a pixel is about 0.22 m


def parking(pad: Pad) -> None:
    """Car park: double rows of stalls between aisles, often with a shop at one side."""
    rng = pad.rng
    pad.cover("grass")
    pad.cover("asphalt", 5)
    top = pad.top + 10
    if pad.height > 150 and rng.random() < 0.75:
        depth = rng.uniform(40, 62)
        length = pad.width * rng.uniform(0.5, 0.85)
        pad.building(0, top + depth / 2, length, depth, roof="flat", height=rng.uniform(16, 26))
        top += depth + _AISLE * 0.7
    while top + 2 * _DEPTH < -pad.top - 6:
        _double_row(pad, top, rng.uniform(0.25, 0.75))
        top += 2 * _DEPTH + _AISLE


def _double_row(pad: Pad, top: float, chance: float) -> None:
    left, middle = pad.left + 24, top + _DEPTH
    count = int((pad.width - 48) / _STALL)
    pad.line((left, middle), (left + count * _STALL, middle))
    for stall in range(count + 1):
        x = left + stall * _STALL
        pad.line((x, top), (x, top + 2 * _DEPTH))
        if stall == count:
            break
        if stall % 11 == 5:
            pad.area(x + 1, top + 2, x + _STALL - 1, top + 2 * _DEPTH - 2, "grass", layer=3)
            pad.tree(x + _STALL / 2, middle + pad.rng.uniform(-12, 12), pad.rng.uniform(5, 8))
            continue
        for y in (middle - _DEPTH / 2, middle + _DEPTH / 2):
            pad.slot("small-vehicle", x + _STALL / 2, y, float(pad.rng.choice([_UP, _DOWN])), chance)


def depot(pad: Pad) -> None:
    """Freight yard: a hall with trucks at its docks, and rows of parked trucks."""
    rng = pad.rng
    pad.cover("grass")
    pad.cover("concrete" if rng.random() < 0.6 else "asphalt", 4)
    depth = min(rng.uniform(50, 80), pad.height * 0.4)
    top = pad.top + 8 + depth
    pad.building(
        0,
        top - depth / 2,
        pad.width * rng.uniform(0.7, 0.92),
        depth,
        roof="metal",
        height=rng.uniform(20, 30),
    )
    _truck_row(pad, top + 29, _DOWN, rng.uniform(0.3, 0.7))
    top += 90
    while top + 54 < -pad.top:
        _truck_row(pad, top + 27, float(rng.choice([_UP, _DOWN])), rng.uniform(0.3, 0.75), lines=True)
        top += 92
    for x in np.arange(pad.left + 30, -pad.left - 30, 26):
        pad.slot("small-vehicle", x, -pad.top - 10, 0.0, 0.2)


def _truck_row(pad: Pad, y: float, heading: float, chance: float, lines: bool = False) -> None:
    for x in np.arange(pad.left + 28, -pad.left - 28, 19.0):
        if lines:
            pad.line((x - 9.5, y - 26), (x - 9.5, y + 26), tone=215)
        pad.slot("large-vehicle", x, y, heading, chance)


def tank_farm(pad: Pad) -> None:
    """Storage tanks in rows, each row inside its wall, with a service road."""
    rng = pad.rng
    pad.cover("meadow")
    pad.cover("gravel" if rng.random() < 0.6 else "concrete", 4)
    road = pad.top + 20
    pad.area(pad.left, road - 13, -pad.left, road + 13, "asphalt", layer=2)
    for x in np.arange(pad.left + 30, -pad.left - 30, 48):
        kind: Kind = "large-vehicle" if rng.random() < 0.5 else "small-vehicle"
        pad.slot(kind, x, road + float(rng.choice([-6.5, 6.5])), 0.0, 0.45, wander=2)
    top, wall = road + 20, rng.uniform(105, 185)
    while True:
        diameter = rng.uniform(22, 38)
        pitch = diameter + rng.uniform(9, 16)
        if top + pitch > -pad.top - 4:
            break
        count = int((pad.width - 20) / pitch)
        side = count * pitch / 2
        for y in (top, top + pitch):
            pad.line((-side, y), (side, y), 1.4, tone=wall)
        for x in (-side, side):
            pad.line((x, top), (x, top + pitch), 1.4, tone=wall)
        for index in range(count):
            size = max(20, diameter * rng.uniform(0.88, 1.0))
            x = (index - (count - 1) / 2) * pitch
            pad.slot("storage-tank", x, top + pitch / 2, 0.0, 0.85, size=(size, size))
        top += pitch + rng.uniform(4, 22)


def houses(pad: Pad) -> None:
    """Housing: double rows of parcels with a house, a drive and trees each, and lanes between them."""
    count = max(1, int(pad.height / 165))
    depth = (pad.height - (count - 1) * _LANE) / count
    for number in range(count):
        y = pad.top + depth / 2 + number * (depth + _LANE)
        _parcels(pad.part(0, y, pad.width, depth))
        if number:
            _lane(pad.part(0, y - (depth + _LANE) / 2, pad.width, _LANE))


def _lane(pad: Pad) -> None:
    pad.cover("asphalt")
    for x in np.arange(pad.left + 20, -pad.left - 20, 30):
        pad.slot("small-vehicle", x, float(pad.rng.choice([-7, 7])), 0.0, 0.3, wander=2)


def _parcels(pad: Pad) -> None:
    """Lay out two rows of parcels, back to back."""
    rng = pad.rng
    pad.cover("grass")
    for side in (-1, 1):
        x = pad.left + 4
        while x + 62 < -pad.left:
            parcel = rng.uniform(62, 84)
            _parcel(pad, x, min(parcel, -pad.left - x), side)
            x += parcel
    pad.line((pad.left, 0), (-pad.left, 0), 1.5, tone=120)


def _parcel(pad: Pad, left: float, width: float, side: int) -> None:
    """Lay out one parcel; ``side`` -1 faces the top edge of the block, 1 the bottom."""
    rng = pad.rng
    depth = min(rng.uniform(36, 50), pad.height / 2 - 36)
    length = min(width - 24, rng.uniform(40, 58))
    front = side * (-pad.top - rng.uniform(28, 34))
    y = front - side * depth / 2
    x = left + 18 + length / 2
    roof: Roof = _choose(rng, ("gable", "hip", "gable", "flat"))
    if rng.random() < 0.4:
        pad.area(
            x - length / 2 - 4, y - depth / 2 - 4, x + length / 2 + 4, y + depth / 2 + 4, "soil", layer=1
        )
    if length >= depth:
        pad.building(x, y, length, depth, roof=roof, height=rng.uniform(14, 20))
    else:
        pad.building(x, y, depth, length, heading=_DOWN, roof=roof, height=rng.uniform(14, 20))
    drive = left + 9
    edge = -side * pad.top
    pad.area(drive - 7, min(edge, y), drive + 7, max(edge, y), "concrete", layer=1)
    for offset in (14, 38):
        pad.slot("small-vehicle", drive, edge - side * offset, float(rng.choice([_UP, _DOWN])), 0.5)
    pad.line((left, 0), (left, edge), 1.2, tone=125)
    for _ in range(int(rng.integers(1, 5))):
        pad.tree(left + rng.uniform(4, width - 4), side * rng.uniform(8, -pad.top - 8), rng.uniform(6, 13))


def _choose(rng: np.random.Generator, options: tuple[Roof, ...]) -> Roof:
    """Choose one of the roofs."""
    return options[int(rng.integers(len(options)))]


def farmland(pad: Pad) -> None:
    """Fields with furrows, a hedge, and a barn with its yard."""
    rng = pad.rng
    pad.cover("meadow")
    split = rng.uniform(-0.2, 0.2) * pad.width
    for left, right in ((pad.left + 5, split - 4), (split + 4, -pad.left - 5)):
        angle = float(rng.choice([0.0, np.pi / 2]))
        corners = [(left, pad.top + 5), (right, pad.top + 5), (right, -pad.top - 5), (left, -pad.top - 5)]
        pad.shape(corners, "field" if rng.random() < 0.8 else "meadow", angle=angle)
    for y in np.arange(pad.top, -pad.top, 11):
        if rng.random() < 0.7:
            pad.tree(split + rng.normal(0, 2), y, rng.uniform(5, 9))
    x, y = pad.left + 50, -pad.top - 44
    pad.area(pad.left + 4, y - 36, pad.left + 104, -pad.top, "gravel", layer=1)
    pad.building(x, y - 12, 56, 30, roof="gable", height=18)
    for step in range(4):
        pad.slot("small-vehicle", x - 30 + 22 * step, y + 24, _UP, 0.5, spin=0.5)


def woods(pad: Pad) -> None:
    """Trees in groups on a meadow, with a path."""
    rng = pad.rng
    pad.cover("grass" if rng.random() < 0.5 else "meadow")
    bend = rng.uniform(-0.3, 0.3) * pad.height
    steps = np.linspace(pad.left, -pad.left, 12)
    path = bend * np.sin(steps / pad.width * np.pi * 2)
    pad.shape(np.concatenate([np.c_[steps, path - 4], np.c_[steps, path + 4][::-1]]), "soil", layer=1)
    for _ in range(int(pad.width * pad.height / 3200)):
        x, y = rng.uniform(pad.left, -pad.left), rng.uniform(pad.top, -pad.top)
        if abs(y - np.interp(x, steps, path)) < 14:
            continue
        for _ in range(int(rng.integers(1, 6))):
            pad.tree(x + rng.normal(0, 13), y + rng.normal(0, 13), rng.uniform(7, 14))
