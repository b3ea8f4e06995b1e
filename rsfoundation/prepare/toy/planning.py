"""From a seed to the plan of a scene: streets, the blocks between them, and their objects at a date."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from rsfoundation.prepare.toy import city_blocks
from rsfoundation.prepare.toy.city_blocks import BlockBuilder
from rsfoundation.prepare.toy.geometry import Box, Frame, Points, visible_share
from rsfoundation.prepare.toy.scene_model import Kind, ObjectSlot, SceneObject, ScenePlan

_UP, _DOWN = -np.pi / 2, np.pi / 2


def harbour(block: BlockBuilder) -> None:
    """Quay at the top with vehicles and a shed, piers with ships on both sides, ships under way."""
    rng = block.rng
    block.cover("water", angle=rng.uniform(0, np.pi))
    quay = block.top + rng.uniform(44, 60)
    block.area(block.left, block.top, -block.left, quay, "concrete", layer=1)
    block.line((block.left, quay - 2), (-block.left, quay - 2), 2, tone=205)
    shed = rng.uniform(50, 90)
    block.building(block.left + 20 + shed / 2, block.top + 17, shed, 26, roof="metal", height=16)
    for x in np.arange(block.left + 16, -block.left - 16, 25):
        block.slot(
            "small-vehicle" if rng.random() < 0.7 else "large-vehicle", x, quay - 10, 0.0, 0.3, wander=2
        )
    if rng.random() < 0.65:
        _piers(block, quay)
    else:
        _quayside(block, quay)


def _piers(block: BlockBuilder, quay: float) -> None:
    rng = block.rng
    length, width = rng.uniform(46, 78), rng.uniform(14, 20)
    pitch = 2 * width + 12 + rng.uniform(18, 30)
    reach = min(-block.top - quay - 14, 2 * length + 16)
    for x in np.arange(block.left + pitch * 0.55, -block.left - pitch * 0.4, pitch):
        block.area(x - 5, quay - 2, x + 5, quay + reach, "concrete", layer=1)
        for side in (-1, 1):
            for step in range(int(reach / (length + 6))):
                size = (length * rng.uniform(0.85, 1), width * rng.uniform(0.85, 1))
                y = quay + 6 + length / 2 + step * (length + 6)
                where = x + side * (6.5 + size[1] / 2)
                block.slot("ship", where, y, float(rng.choice([_UP, _DOWN])), 0.7, size=size, wander=0.8)


def _quayside(block: BlockBuilder, quay: float) -> None:
    """Moor ships along the quay, and let some pass by."""
    rng = block.rng
    x = block.left + 10
    while x + 80 < -block.left:
        length, width = rng.uniform(64, 110), rng.uniform(17, 25)
        heading = float(rng.choice([0, np.pi]))
        block.slot(
            "ship", x + length / 2, quay + 2 + width / 2, heading, 0.85, size=(length, width), wander=0.8
        )
        x += length + 10
    sailing(block, block.left + 30, quay + 50, -block.left - 30, -block.top - 20)


def sailing(block: BlockBuilder, left: float, top: float, right: float, bottom: float) -> None:
    """Let ships moor or pass anywhere in a rectangle of water.

    Args:
        block: The block.
        left: Smallest x of the water.
        top: Smallest y.
        right: Largest x.
        bottom: Largest y.
    """
    step = 64.0
    for x in np.arange(left + step / 2, right, step):
        for y in np.arange(top + step / 2, bottom, step):
            heading = block.rng.uniform(-np.pi, np.pi)
            block.slot(
                "ship", x, y, heading, 0.75, wander=24, spin=0.8, moving=bool(block.rng.random() < 0.4)
            )


def coast(block: BlockBuilder) -> None:
    """Open water with a beach and houses at the top."""
    rng = block.rng
    block.cover("water", angle=rng.uniform(0, np.pi))
    shore = block.top + block.height * rng.uniform(0.2, 0.38)
    block.shape(_shore(block, shore + 10, swing=14), "sand", layer=1)
    block.shape(_shore(block, shore - 10, swing=6), "grass", layer=1)
    x = block.left + 40
    while x < -block.left - 40:
        if rng.random() < 0.6:
            y = shore - rng.uniform(60, 80)
            block.building(x, y, rng.uniform(40, 56), rng.uniform(30, 40), roof="hip", height=16)
        for _ in range(3):
            block.tree(x + rng.uniform(-40, 40), shore - rng.uniform(26, 110), rng.uniform(6, 12))
        x += rng.uniform(70, 90)
    sailing(block, block.left + 20, shore + 40, -block.left - 20, -block.top - 10)


def _shore(block: BlockBuilder, level: float, swing: float) -> Points:
    """Return the land above a wavy line."""
    x = np.linspace(block.left, -block.left, 60)
    y = level + sum(
        swing / order * np.sin(x / block.width * order * np.pi * 3 + block.rng.uniform(0, 6))
        for order in (1, 2, 4)
    )
    return np.concatenate([[(block.left, block.top), (-block.left, block.top)], np.c_[x, y][::-1]])


_STREET = 34.0
_PAVEMENT = 4.0
_BLOCK = (90.0, 290.0)  # shortest side of a block, longest side that may stay whole, in pixels
MIN_VISIBLE = 0.5  # objects cut by the border further than this are left out


@dataclass(frozen=True)
class _BlockUse:
    """How often a kind of block is in the middle of a scene, and elsewhere; and the room it needs."""

    plan: Callable[[BlockBuilder], None]
    central: float
    elsewhere: float
    least_side: float


_BLOCK_USES = (
    _BlockUse(city_blocks.parking, 3, 2, 90),
    _BlockUse(city_blocks.depot, 3, 2, 150),
    _BlockUse(city_blocks.tank_farm, 2, 1.4, 110),
    _BlockUse(harbour, 3, 1.6, 150),
    _BlockUse(city_blocks.houses, 4.5, 5, 150),
    _BlockUse(city_blocks.farmland, 0, 1.2, 120),
    _BlockUse(city_blocks.woods, 0, 1, 0),
)
_COAST_SHARE = 0.1
# What a scene of one kind of block shows: the classes of scene recognition.
SINGLE_BLOCKS: Mapping[str, Callable[[BlockBuilder], None]] = {
    "coast": coast,
    "depot": city_blocks.depot,
    "farmland": city_blocks.farmland,
    "forest": city_blocks.woods,
    "harbour": harbour,
    "parking": city_blocks.parking,
    "residential": city_blocks.houses,
    "storage_tanks": city_blocks.tank_farm,
}


@dataclass(frozen=True)
class _Rect:
    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> tuple[float, float]:
        return self.right - self.left, self.bottom - self.top


def plan_scene(width: int, height: int, rng: np.random.Generator, block: str | None = None) -> ScenePlan:
    """Plan a scene of ``width`` x ``height`` pixels.

    Args:
        width: In pixels.
        height: In pixels.
        rng: All decisions come from it.
        block: A name of :data:`SINGLE_BLOCKS`: the whole scene is one block of that kind, without streets.
    """
    plan = ScenePlan(width, height)
    angle = rng.uniform(-np.pi, np.pi)
    frame = Frame((width - 1) / 2, (height - 1) / 2, angle)
    cos, sin = abs(np.cos(angle)), abs(np.sin(angle))
    span = (width * cos + height * sin + 60, width * sin + height * cos + 60)
    change_rate = 0.0 if rng.random() < 0.1 else rng.uniform(0.35, 0.75)
    whole = _Rect(-span[0] / 2, -span[1] / 2, span[0] / 2, span[1] / 2)
    if block is not None:
        SINGLE_BLOCKS[block](BlockBuilder(plan, frame, whole.size, rng, change_rate))
    elif max(width, height) <= 512 and rng.random() < _COAST_SHARE:
        coast(BlockBuilder(plan, frame, whole.size, rng, change_rate))
    else:
        for rect in _split(whole, BlockBuilder(plan, frame, span, rng, change_rate)):
            _fill(plan, frame, rect, rng, change_rate)
    plan.clear_trees()
    plan.regions.sort(key=lambda region: region.layer)
    return plan


def place_objects(
    plan: ScenePlan, rng: np.random.Generator, fixed_rng: np.random.Generator
) -> list[SceneObject]:
    """Choose which slots are taken, and by what.

    Args:
        plan: The scene.
        rng: Randomness of the date.
        fixed_rng: Randomness of objects that are the same at every date.
    """
    objects: list[SceneObject] = []
    for slot in plan.slots:
        source = fixed_rng if slot.fixed else rng
        chance, *shift = source.random(4)
        seed = int(source.integers(2**31))
        if chance >= slot.chance:
            continue
        box = _shifted(slot, np.array(shift) * 2 - 1)
        if visible_share(box.quad(), plan.width, plan.height) >= MIN_VISIBLE and _free(box, objects):
            objects.append(SceneObject(slot.kind, box, seed, slot.moving))
    return objects


def _shifted(slot: ObjectSlot, shift: np.ndarray) -> Box:
    box = slot.box
    x, y = box.x + shift[0] * slot.wander, box.y + shift[1] * slot.wander
    return Box(x, y, box.length, box.width, box.heading + shift[2] * slot.spin)


def _free(box: Box, objects: list[SceneObject]) -> bool:
    for item in objects:
        other = item.box
        if (
            np.hypot(box.x - other.x, box.y - other.y)
            > (box.length + box.width + other.length + other.width) / 2
        ):
            continue
        if cv2.rotatedRectangleIntersection(box.rotated_rect(), other.rotated_rect())[0] != 0:
            return False
    return True


def _split(rect: _Rect, block: BlockBuilder) -> list[_Rect]:
    """Split a rectangle by streets until the blocks are small enough."""
    low, high = _BLOCK
    width, height = rect.size
    if max(width, height) <= high * block.rng.uniform(0.8, 1.5):
        return [rect]
    tall = height > width
    side = height if tall else width
    room = float(np.clip((side - _STREET) / 3, low, 2 * low))
    room = min(room, (side - _STREET) / 2)
    cuts = block.rng.uniform(room, side - _STREET - room, 3)
    start = rect.top if tall else rect.left
    cut = float(max(cuts, key=lambda cut: abs(start + cut + _STREET / 2)))  # off the middle of the scene
    if tall:
        middle = rect.top + cut
        _street(block, _Rect(rect.left, middle, rect.right, middle + _STREET))
        first = _Rect(rect.left, rect.top, rect.right, middle)
        second = _Rect(rect.left, middle + _STREET, rect.right, rect.bottom)
    else:
        middle = rect.left + cut
        _street(block, _Rect(middle, rect.top, middle + _STREET, rect.bottom))
        first = _Rect(rect.left, rect.top, middle, rect.bottom)
        second = _Rect(middle + _STREET, rect.top, rect.right, rect.bottom)
    return _split(first, block) + _split(second, block)


def _street(block: BlockBuilder, rect: _Rect) -> None:
    """Plan a street with pavements, lane markings and slots for driving cars."""
    width, height = rect.size
    x, y = (rect.left + rect.right) / 2, (rect.top + rect.bottom) / 2
    flat = width > height
    length = max(width, height)
    road = BlockBuilder(
        block.plan,
        block.frame.child(x, y, 0.0 if flat else np.pi / 2),
        (length, _STREET),
        block.rng,
        block.change_rate,
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


def _fill(plan: ScenePlan, frame: Frame, rect: _Rect, rng: np.random.Generator, change_rate: float) -> None:
    """Choose what a block is and plan it, turned by any number of right angles."""
    central = rect.left < 0 < rect.right and rect.top < 0 < rect.bottom
    uses = [use for use in _BLOCK_USES if use.least_side <= min(rect.size)]
    weights = np.array([use.central if central else use.elsewhere for use in uses])
    if not weights.any():
        weights += 1
    use = uses[int(rng.choice(len(uses), p=weights / weights.sum()))]
    turns = int(rng.integers(4))
    size = rect.size if turns % 2 == 0 else rect.size[::-1]
    centre = frame.child((rect.left + rect.right) / 2, (rect.top + rect.bottom) / 2, turns * np.pi / 2)
    use.plan(BlockBuilder(plan, centre, size, rng, change_rate))
