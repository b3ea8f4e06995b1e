"""From a seed to the plan of a scene: streets, the blocks between them, what stands there at a date."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from rsfoundation.data.toy import blocks, waterfront
from rsfoundation.data.toy.elements import Kind, Plan, Slot, Thing
from rsfoundation.data.toy.geometry import Box, Frame, visible_share
from rsfoundation.data.toy.pad import Pad

_STREET = 34.0
_PAVEMENT = 4.0
_BLOCK = (90.0, 290.0)  # shortest side of a block, longest side that may stay whole, in pixels
MIN_VISIBLE = 0.5  # objects cut by the border further than this are left out


@dataclass(frozen=True)
class _Use:
    """How often a kind of block stands in the middle of a scene, and elsewhere; and the room it needs."""

    plan: Callable[[Pad], None]
    central: float
    elsewhere: float
    least_side: float


_USES = (
    _Use(blocks.parking, 3, 2, 90),
    _Use(blocks.depot, 3, 2, 150),
    _Use(blocks.tank_farm, 2, 1.4, 110),
    _Use(waterfront.harbour, 3, 1.6, 150),
    _Use(blocks.houses, 4.5, 5, 150),
    _Use(blocks.farmland, 0, 1.2, 120),
    _Use(blocks.woods, 0, 1, 0),
)
_COAST_SHARE = 0.1


@dataclass(frozen=True)
class _Rect:
    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> tuple[float, float]:
        return self.right - self.left, self.bottom - self.top


def plan_scene(width: int, height: int, rng: np.random.Generator) -> Plan:
    """Plan a scene of ``width`` x ``height`` pixels."""
    plan = Plan(width, height)
    angle = rng.uniform(-np.pi, np.pi)
    frame = Frame((width - 1) / 2, (height - 1) / 2, angle)
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    span = (width * cos + height * sin + 60, width * sin + height * cos + 60)
    change_rate = 0.0 if rng.random() < 0.1 else rng.uniform(0.35, 0.75)
    whole = _Rect(-span[0] / 2, -span[1] / 2, span[0] / 2, span[1] / 2)
    if max(width, height) <= 512 and rng.random() < _COAST_SHARE:
        waterfront.coast(Pad(plan, frame, whole.size, rng, change_rate))
    else:
        for rect in _split(whole, Pad(plan, frame, span, rng, change_rate)):
            _fill(plan, frame, rect, rng, change_rate)
    plan.clear_trees()
    plan.regions.sort(key=lambda region: region.layer)
    return plan


def occupy(plan: Plan, rng: np.random.Generator, fixed_rng: np.random.Generator) -> list[Thing]:
    """Choose which slots are taken, and by what.

    Args:
        plan: The scene.
        rng: Randomness of the date.
        fixed_rng: Randomness of what is the same at every date.
    """
    things: list[Thing] = []
    for slot in plan.slots:
        source = fixed_rng if slot.fixed else rng
        chance, *shift = source.random(4)
        seed = int(source.integers(2**31))
        if chance >= slot.chance:
            continue
        box = _shifted(slot, np.array(shift) * 2 - 1)
        if visible_share(box.quad(), plan.width, plan.height) >= MIN_VISIBLE and _free(box, things):
            things.append(Thing(slot.kind, box, seed, slot.moving))
    return things


def _shifted(slot: Slot, shift: np.ndarray) -> Box:
    box = slot.box
    x, y = box.x + shift[0] * slot.wander, box.y + shift[1] * slot.wander
    return Box(x, y, box.length, box.width, box.heading + shift[2] * slot.spin)


def _free(box: Box, things: list[Thing]) -> bool:
    for thing in things:
        other = thing.box
        if (
            np.hypot(box.x - other.x, box.y - other.y)
            > (box.length + box.width + other.length + other.width) / 2
        ):
            continue
        if cv2.rotatedRectangleIntersection(box.rotated_rect(), other.rotated_rect())[0] != 0:
            return False
    return True


def _split(rect: _Rect, pad: Pad) -> list[_Rect]:
    """Cut a rectangle by streets until the blocks are small enough."""
    low, high = _BLOCK
    width, height = rect.size
    if max(width, height) <= high * pad.rng.uniform(0.8, 1.5):
        return [rect]
    tall = height > width
    side = height if tall else width
    room = float(np.clip((side - _STREET) / 3, low, 2 * low))
    room = min(room, (side - _STREET) / 2)
    cuts = pad.rng.uniform(room, side - _STREET - room, 3)
    start = rect.top if tall else rect.left
    cut = float(max(cuts, key=lambda cut: abs(start + cut + _STREET / 2)))  # off the middle of the scene
    if tall:
        middle = rect.top + cut
        _street(pad, _Rect(rect.left, middle, rect.right, middle + _STREET))
        first = _Rect(rect.left, rect.top, rect.right, middle)
        second = _Rect(rect.left, middle + _STREET, rect.right, rect.bottom)
    else:
        middle = rect.left + cut
        _street(pad, _Rect(middle, rect.top, middle + _STREET, rect.bottom))
        first = _Rect(rect.left, rect.top, middle, rect.bottom)
        second = _Rect(middle + _STREET, rect.top, rect.right, rect.bottom)
    return _split(first, pad) + _split(second, pad)


def _street(pad: Pad, rect: _Rect) -> None:
    """Lay a street with pavements, lane markings and slots for driving cars."""
    width, height = rect.size
    x, y = (rect.left + rect.right) / 2, (rect.top + rect.bottom) / 2
    flat = width > height
    length = max(width, height)
    road = Pad(
        pad.plan,
        pad.frame.child(x, y, 0.0 if flat else np.pi / 2),
        (length, _STREET),
        pad.rng,
        pad.change_rate,
    )
    kerb = road.top + _PAVEMENT
    road.area(road.left, road.top, -road.left, -road.top, "concrete", layer=1)
    road.area(road.left - _PAVEMENT, kerb, -road.left + _PAVEMENT, -kerb, "asphalt", layer=2)
    road.line((road.left, 0), (-road.left, 0), 1.4, dash=14)
    for edge in (kerb + 1.5, -kerb - 1.5):
        road.line((road.left, edge), (-road.left, edge), 1.0, tone=200)
    for along in np.arange(road.left + 30, -road.left - 30, 56):
        for side in (-1, 1):
            kind: Kind = "large-vehicle" if road.rng.random() < 0.2 else "small-vehicle"
            heading = 0.0 if side > 0 else np.pi
            road.slot(kind, along, side * 7, heading, 0.22, wander=1.5)


def _fill(plan: Plan, frame: Frame, rect: _Rect, rng: np.random.Generator, change_rate: float) -> None:
    """Choose what a block is and plan it, turned by any number of right angles."""
    central = rect.left < 0 < rect.right and rect.top < 0 < rect.bottom
    uses = [use for use in _USES if use.least_side <= min(rect.size)]
    weights = np.array([use.central if central else use.elsewhere for use in uses])
    if not weights.any():
        weights += 1
    use = uses[int(rng.choice(len(uses), p=weights / weights.sum()))]
    turns = int(rng.integers(4))
    size = rect.size if turns % 2 == 0 else rect.size[::-1]
    centre = frame.child((rect.left + rect.right) / 2, (rect.top + rect.bottom) / 2, turns * np.pi / 2)
    use.plan(Pad(plan, centre, size, rng, change_rate))
