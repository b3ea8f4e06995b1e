"""One toy scene: how its parts are drawn at a date, and the masks that follow from the same plan."""

from functools import cached_property
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.prepare.toy.canvas import (
    FINE,
    Appearance,
    BoxPen,
    Canvas,
    Field,
    Tone,
    distance_along,
    draw_appearance,
    fill,
    fractal,
    material_texture,
    mix,
    record,
    shade,
    shade_map,
    shrink,
    stroke,
    to_canvas,
)
from rsfoundation.prepare.toy.geometry import Mask, Points, ellipse, polygon_mask
from rsfoundation.prepare.toy.planning import place_objects, plan_scene
from rsfoundation.prepare.toy.scene_model import (
    DATES,
    Building,
    GroundLine,
    GroundRegion,
    SceneObject,
    ScenePlan,
)

_SOFT = {"soil": 2.0, "sand": 2.5, "gravel": 1.2, "meadow": 1.2}  # blur of edges in pixels


def paint_ground(plan: ScenePlan, season: float, wave_seed: int) -> Canvas:
    """Return the ground as a canvas, RGB.

    Args:
        plan: The scene.
        season: See :class:`~.canvas.Appearance`.
        wave_seed: Waves differ from date to date.
    """
    ground = np.full((plan.height, plan.width, 3), 110, dtype=np.float32)
    for region in plan.regions:
        _paint_region(ground, region, season, wave_seed)
    size = (plan.width * FINE, plan.height * FINE)
    canvas: Canvas = np.empty((size[1], size[0], 3), dtype=np.uint8)
    cv2.resize(np.clip(ground, 0, 255).astype(np.uint8), size, canvas, interpolation=cv2.INTER_LINEAR)
    for line in plan.lines:
        _paint_line(canvas, line)
    return canvas


def _paint_region(ground: Field, region: GroundRegion, season: float, wave_seed: int) -> None:
    height, width = ground.shape[:2]
    left, top = np.clip(np.floor(region.outline.min(axis=0)) - 4, 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(region.outline.max(axis=0)) + 5, 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    shape = (bottom - top, right - left)
    seed = region.seed ^ wave_seed if region.material == "water" else region.seed
    texture = material_texture(region.material, shape, seed, season=season, angle=region.angle)
    alpha = _coverage(region.outline - (left, top), shape, _SOFT.get(region.material, 0.0))
    window = ground[top:bottom, left:right]
    window += (texture - window) * alpha[..., None]


def _coverage(outline: Points, shape: tuple[int, int], soft: float) -> Field:
    """Return the share of each pixel that a polygon covers."""
    mask = np.zeros(shape, dtype=np.uint8)
    points = np.round(outline * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    if soft:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft), dtype=np.uint8)
    return mask.astype(np.float32) / np.float32(255)


def _paint_line(canvas: Canvas, line: GroundLine) -> None:
    whole = line.end - line.start
    length = float(np.hypot(*whole))
    if length == 0:
        return
    forward = whole / length
    side = np.array([-forward[1], forward[0]]) * line.width / 2
    period = line.dash * 2 if line.dash else length
    reach = line.dash or length
    for begin in np.arange(0, length, period):
        a = line.start + forward * begin
        b = line.start + forward * min(begin + reach, length)
        tone = line.tone
        fill(canvas, np.array([a - side, b - side, b + side, a + side]), (tone, tone, tone * 0.97))


def grow_canopy(plan: ScenePlan, rng: np.random.Generator) -> Field:
    """Return the height of tree crowns on the canvas (0 where there is none), in image pixels.

    Args:
        plan: The scene.
        rng: Of the shape of the crowns.
    """
    shape = (plan.height * FINE, plan.width * FINE)
    heights = np.zeros(shape, dtype=np.float32)
    if not plan.trees:
        return heights
    bumps = fractal(shape, rng, 14 * FINE, 4)
    for tree in plan.trees:
        x, y = to_canvas([tree.x, tree.y]) / 16
        reach = tree.radius * FINE * 1.3
        left, top = (int(max(0, value - reach)) for value in (x, y))
        right, bottom = int(min(shape[1], x + reach)), int(min(shape[0], y + reach))
        if right <= left or bottom <= top:
            continue
        rows, columns = np.mgrid[top:bottom, left:right].astype(np.float32)
        distance = np.hypot(columns - x, rows - y) / (tree.radius * FINE)
        dome = 1 - distance**2 + 0.22 * bumps[top:bottom, left:right]
        crown = np.where(distance < 1.25, np.sqrt(np.clip(dome, 0, None)), 0) * tree.radius
        np.maximum(heights[top:bottom, left:right], crown, out=heights[top:bottom, left:right])
    return heights


def paint_canopy(
    canvas: Canvas, canopy: Field, sun: tuple[float, float], season: float, rng: np.random.Generator
) -> None:
    """Draw the crowns over the canvas, lit from the sun's side.

    Args:
        canvas: Drawn on.
        canopy: Heights from :func:`grow_canopy`.
        sun: Unit vector towards the sun.
        season: 0 summer, 1 late autumn.
        rng: Of the leaves.
    """
    if not canopy.any():
        return
    left, top, width, height = cv2.boundingRect((canopy > 0).astype(np.uint8))
    window = canvas[top : top + height, left : left + width]
    canopy = canopy[top : top + height, left : left + width]
    shape = (height, width)
    slope_x = cv2.Sobel(canopy, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    slope_y = cv2.Sobel(canopy, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    light = -(slope_x * sun[0] + slope_y * sun[1])
    leaves = rng.standard_normal((height // FINE + 1, width // FINE + 1), dtype=np.float32)
    grain = cv2.resize(leaves, shape[::-1], interpolation=cv2.INTER_LINEAR)
    tint = 0.5 + 0.3 * fractal(shape, rng, 60 * FINE, 3)
    green = mix((78, 98, 52), (46, 68, 36), np.clip(tint, 0, 1))
    colour = mix(green, (134, 104, 58), np.float32(season * 0.7) * np.clip(tint, 0, 1))
    colour = colour * np.clip(0.86 + 0.62 * light + 0.14 * grain, 0.35, 1.8)[..., None]
    alpha = np.clip(canopy / 1.5, 0, 1)[..., None]
    window[...] = np.clip(window + (colour - window) * alpha, 0, 255).astype(np.uint8)


_TILES: tuple[Tone, ...] = (
    (158, 92, 70),
    (136, 78, 62),
    (110, 96, 88),
    (92, 92, 96),
    (124, 116, 108),
    (148, 120, 98),
)
_FLATS: tuple[Tone, ...] = (
    (198, 196, 190),
    (172, 170, 164),
    (140, 138, 136),
    (222, 220, 214),
    (150, 138, 124),
)
_METALS: tuple[Tone, ...] = (
    (206, 210, 212),
    (176, 186, 192),
    (120, 140, 160),
    (196, 186, 166),
    (150, 92, 78),
)


def draw_roof(canvas: Canvas, building: Building, sun: tuple[float, float]) -> None:
    """Draw a roof, its sides lit by how they face the sun.

    Args:
        canvas: Drawn on.
        building: The building.
        sun: Unit vector towards the sun.
    """
    rng = np.random.default_rng(building.seed)
    tones = {"gable": _TILES, "hip": _TILES, "flat": _FLATS, "metal": _METALS}[building.roof]
    paint = shade(tones[int(rng.integers(len(tones)))], rng.uniform(0.88, 1.1))
    pen = BoxPen(canvas, building.box)
    if building.roof in ("gable", "hip"):
        _pitched(pen, building, paint, sun, 0.0 if building.roof == "gable" else 0.22)
        _grain(canvas, building, rng, pitch=2.4, strength=7)
        pen.rect(-0.22, -0.12, -0.16, -0.02, (96, 72, 62))
    elif building.roof == "metal":
        _pitched(pen, building, paint, sun, 0.0, slope=0.08)
        _grain(canvas, building, rng, pitch=4.5, strength=9)
        _skylights(pen, rng)
    else:
        fill(canvas, building.outline, shade(paint, 1.12))
        for part in building.parts:
            fill(canvas, _inset(part, 1.6), paint)
        _grain(canvas, building, rng, pitch=0, strength=6)
        _units(pen, rng, sun)
    stroke(canvas, building.outline, shade(paint, 0.7), closed=True)


def _pitched(
    pen: BoxPen, building: Building, paint: Tone, sun: tuple[float, float], hip: float, slope: float = 0.24
) -> None:
    heading = building.box.heading
    ridge = (0.5 - hip, 0.0), (-0.5 + hip, 0.0)
    facets = {
        np.pi / 2: [(0.5, 0.5), (-0.5, 0.5), ridge[1], ridge[0]],
        -np.pi / 2: [(-0.5, -0.5), (0.5, -0.5), ridge[0], ridge[1]],
        0.0: [(0.5, -0.5), (0.5, 0.5), ridge[0]],
        np.pi: [(-0.5, 0.5), (-0.5, -0.5), ridge[1]],
    }
    for turn, corners in facets.items():
        facing = np.cos(heading + turn) * sun[0] + np.sin(heading + turn) * sun[1]
        pen.poly(corners, shade(paint, 1 + slope * facing))
    pen.line(ridge, shade(paint, 1.3))


def _grain(
    canvas: Canvas, building: Building, rng: np.random.Generator, *, pitch: float, strength: float
) -> None:
    """Roughen a roof, and give it courses across its slope where ``pitch`` is not 0."""
    corners = to_canvas(building.outline) // 16
    left, top = corners.min(axis=0).clip(0)
    right, bottom = np.minimum(corners.max(axis=0) + 1, canvas.shape[1::-1])
    if right <= left or bottom <= top:
        return
    shape = (int(bottom - top), int(right - left))
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, [corners - (left, top)], 1)
    noise = strength * 0.5 * rng.standard_normal(shape, dtype=np.float32)
    blotches = rng.standard_normal((shape[0] // 24 + 2, shape[1] // 24 + 2), dtype=np.float32)
    noise += strength * 0.6 * cv2.resize(blotches, shape[::-1], interpolation=cv2.INTER_CUBIC)
    if pitch:
        heading = building.box.heading + (np.pi / 2 if building.roof != "metal" else 0.0)
        noise += strength * np.sin(distance_along(shape, heading) * np.float32(2 * np.pi / (pitch * FINE)))
    window = canvas[top:bottom, left:right]
    window[...] = np.clip(window + (noise * mask)[..., None], 0, 255).astype(np.uint8)


def _skylights(pen: BoxPen, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:
        return
    for along in np.arange(-0.4, 0.41, 0.16):
        for across in (-0.32, 0.16):
            pen.rect(along, across, along + 0.05, across + 0.16, (226, 232, 232))


def _units(pen: BoxPen, rng: np.random.Generator, sun: tuple[float, float]) -> None:
    """Put air conditioners on a flat roof, each with a little shadow."""
    for _ in range(int(rng.integers(1, 6))):
        along, across = rng.uniform(-0.42, -0.05), rng.uniform(-0.4, -0.02)  # inside every L
        size = rng.uniform(3, 6)
        half_length, half_width = size / 2 / pen.box.length, size / 2 / pen.box.width
        corners = pen.box.at(
            [
                (along + u * half_length, across + v * half_width)
                for u, v in ((1, -1), (1, 1), (-1, 1), (-1, -1))
            ]
        )
        fill(pen.canvas, corners - np.array(sun) * 2, (70, 70, 74))
        fill(pen.canvas, corners, (206, 206, 204))


def _inset(corners: Points, margin: float) -> Points:
    """Move the corners of a rectangle inwards."""
    centre = corners.mean(axis=0)
    reach = np.hypot(*(corners - centre).T).mean()
    return centre + (corners - centre) * max(0.5, 1 - 1.4 * margin / reach)


_GLASS: Tone = (34, 40, 48)
_PAINTS: tuple[Tone, ...] = (
    (236, 236, 234), (240, 240, 238), (196, 198, 200), (60, 62, 66), (34, 34, 36),
    (150, 34, 32), (44, 70, 120), (208, 200, 180), (216, 180, 60), (66, 96, 80),
)  # fmt: skip
_TRUCK_CARGO: tuple[Tone, ...] = (
    (238, 238, 236), (244, 244, 242), (226, 224, 214), (206, 206, 208), (222, 188, 66),
    (176, 58, 44), (62, 98, 150),
)  # fmt: skip
_CABS: tuple[Tone, ...] = ((232, 232, 230), (180, 44, 38), (50, 82, 140), (214, 178, 60), (70, 74, 80))


def _draw_car(canvas: Canvas, item: SceneObject) -> None:
    """Draw a passenger car or van."""
    rng = np.random.default_rng(item.seed)
    paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
    pen = BoxPen(canvas, item.box)
    outline = item.outline()
    fill(canvas, outline, paint)
    stroke(canvas, outline, shade(paint, 0.55), closed=True)
    front = rng.uniform(0.14, 0.2)
    rear = -0.36 if rng.random() < 0.6 else -0.46  # saloon or estate
    pen.poly(
        [(front + 0.08, -0.38), (front + 0.08, 0.38), (front - 0.05, 0.33), (front - 0.05, -0.33)], _GLASS
    )
    pen.poly([(rear + 0.09, -0.32), (rear + 0.09, 0.32), (rear, 0.36), (rear, -0.36)], _GLASS)
    for side in (-0.42, 0.42):
        pen.line([(front, side), (rear + 0.06, side)], shade(_GLASS, 1.4))
    pen.rect(rear + 0.1, -0.3, front - 0.06, 0.3, shade(paint, 1.06))


def _draw_truck(canvas: Canvas, item: SceneObject) -> None:
    """Draw a truck with its cargo box, or a bus."""
    rng = np.random.default_rng(item.seed)
    box = _TRUCK_CARGO[int(rng.integers(len(_TRUCK_CARGO)))]
    pen = BoxPen(canvas, item.box)
    outline = item.outline()
    if rng.random() < 0.3:
        _bus(pen, canvas, item, box)
        return
    cab = _CABS[int(rng.integers(len(_CABS)))]
    length = rng.uniform(0.15, 0.2)
    pen.rect(-0.48, -0.3, 0.4, 0.3, (46, 46, 48))
    pen.poly(
        [(0.5, -0.36), (0.5, 0.36), (0.47, 0.46), (0.5 - length, 0.46), (0.5 - length, -0.46), (0.47, -0.46)],
        cab,
    )
    pen.rect(0.45, -0.38, 0.475, 0.38, _GLASS)
    back = 0.5 - length - 0.035
    pen.rect(-0.5, -0.5, back, 0.5, box)
    for along in np.linspace(-0.5, back, 7)[1:-1]:
        pen.line([(along, -0.46), (along, 0.46)], shade(box, 0.9))
    stroke(
        canvas,
        pen.box.at([(back, -0.5), (back, 0.5), (-0.5, 0.5), (-0.5, -0.5)]),
        shade(box, 0.6),
        closed=True,
    )
    stroke(canvas, outline, shade(box, 0.7), closed=True)


def _bus(pen: BoxPen, canvas: Canvas, item: SceneObject, paint: Tone) -> None:
    outline = item.outline()
    fill(canvas, outline, paint)
    pen.rect(0.44, -0.42, 0.475, 0.42, _GLASS)
    for along in (0.2, -0.12, -0.36):
        pen.rect(along - 0.05, -0.22, along + 0.05, 0.22, shade(paint, 0.8))
    for side in (-0.44, 0.44):
        pen.line([(0.42, side), (-0.46, side)], shade(paint, 0.55))
    stroke(canvas, outline, shade(paint, 0.6), closed=True)


_HULLS: tuple[Tone, ...] = (
    (232, 232, 228),
    (214, 212, 206),
    (70, 76, 84),
    (120, 50, 42),
    (46, 66, 96),
    (196, 190, 176),
)
_DECKS: tuple[Tone, ...] = ((196, 190, 178), (168, 140, 108), (150, 152, 152), (140, 76, 60), (104, 124, 112))
_SHIP_CARGO: tuple[Tone, ...] = ((176, 62, 48), (58, 96, 148), (200, 160, 70), (206, 206, 204), (74, 120, 84))
_TANKS: tuple[Tone, ...] = (
    (236, 236, 232),
    (226, 224, 216),
    (206, 206, 204),
    (190, 184, 168),
    (164, 128, 104),
)


def _draw_ship(canvas: Canvas, item: SceneObject) -> None:
    """Draw a ship: hull, deck, bridge near the stern, and hatches, containers or masts."""
    rng = np.random.default_rng(item.seed)
    hull, deck = (tones[int(rng.integers(len(tones)))] for tones in (_HULLS, _DECKS))
    pen = BoxPen(canvas, item.box)
    outline = item.outline()
    fill(canvas, outline, hull)
    inner = (outline - (item.box.x, item.box.y)) * (0.92, 0.92) + (item.box.x, item.box.y)
    fill(canvas, inner, deck)
    stroke(canvas, outline, shade(hull, 0.6), closed=True)
    bridge = rng.uniform(-0.34, -0.2)
    _deck_load(pen, rng, bridge, deck)
    pen.rect(bridge - 0.1, -0.36, bridge + 0.07, 0.36, (206, 206, 202))
    pen.rect(bridge - 0.08, -0.3, bridge + 0.04, 0.3, (242, 242, 240))
    pen.rect(bridge + 0.045, -0.3, bridge + 0.065, 0.3, (40, 46, 54))
    pen.disc(bridge - 0.05, 0.0, 0.12 * item.box.width, (120, 50, 44))


def _deck_load(pen: BoxPen, rng: np.random.Generator, bridge: float, deck: Tone) -> None:
    start, end = bridge + 0.11, 0.3
    style = rng.random()
    if style < 0.4:  # hatches
        for along in np.linspace(start, end, 4)[:-1]:
            pen.rect(along + 0.02, -0.26, along + 0.11, 0.26, shade(deck, 0.7))
            pen.rect(along + 0.03, -0.22, along + 0.1, 0.22, shade(deck, 1.15))
    elif style < 0.75:  # containers
        for along in np.arange(start, end - 0.06, 0.075):
            for across in (-0.3, -0.1, 0.1):
                pen.rect(
                    along,
                    across,
                    along + 0.066,
                    across + 0.18,
                    _SHIP_CARGO[int(rng.integers(len(_SHIP_CARGO)))],
                )
    else:  # pipes of a tanker
        for across in (-0.16, 0.0, 0.16):
            pen.line([(start, across), (end, across)], shade(deck, 0.6))
        pen.rect((start + end) / 2 - 0.02, -0.32, (start + end) / 2 + 0.02, 0.32, shade(deck, 1.3))


def _draw_wake(canvas: Canvas, item: SceneObject) -> None:
    """Draw the foam behind a ship under way."""
    rng = np.random.default_rng(item.seed + 1)
    foam = np.zeros(canvas.shape[:2], dtype=np.uint8)
    reach = -0.5 - rng.uniform(0.5, 0.9)
    trail = [(-0.42, -0.35), (-0.42, 0.35), (reach, 0.55), (reach, -0.55)]
    fill(foam, item.box.at(trail), 26)
    for side in (-1, 1):
        fill(
            foam,
            item.box.at([(0.3, 0.4 * side), (-0.5, 0.75 * side), (reach, side), (-0.5, 0.6 * side)]),
            64,
        )
    foam = np.asarray(cv2.GaussianBlur(foam, (0, 0), 4.0), dtype=np.uint8)
    cv2.add(canvas, cv2.merge([foam] * 3), canvas)


def _draw_tank(canvas: Canvas, item: SceneObject, sun: tuple[float, float]) -> None:
    """Draw a storage tank: wall, roof lit from the sun's side, rim and stairs."""
    rng = np.random.default_rng(item.seed)
    paint = _TANKS[int(rng.integers(len(_TANKS)))]
    x, y, radius = item.box.x, item.box.y, item.box.length / 2
    fill(canvas, ellipse(x, y, radius), shade(paint, 0.62))
    for step in np.linspace(0, 1, 5):
        centre = (x + sun[0] * radius * 0.1 * step, y + sun[1] * radius * 0.1 * step)
        fill(canvas, ellipse(*centre, radius * (0.95 - 0.16 * step)), shade(paint, 0.86 + 0.17 * step))
    if rng.random() < 0.35:  # floating roof: the wall throws its shadow inside
        fill(canvas, ellipse(x, y, radius * 0.84), shade(paint, 0.5))
        fill(
            canvas,
            ellipse(x - sun[0] * radius * 0.1, y - sun[1] * radius * 0.1, radius * 0.74),
            shade(paint, 0.82),
        )
    else:
        fill(canvas, ellipse(x, y, radius * 0.1), shade(paint, 0.6))
    stroke(canvas, ellipse(x, y, radius * 0.95), shade(paint, 1.12), closed=True)
    turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, 0.7, 6)
    stairs = np.stack([x + radius * 1.0 * np.cos(turn), y + radius * 1.0 * np.sin(turn)], axis=1)
    stroke(canvas, stairs, shade(paint, 0.4))


GSD = 0.22  # metres per pixel
_SKY_LIGHT = np.array([0.92, 0.98, 1.12], dtype=np.float32)  # light in the shade is bluish


class Scene:
    """A scene that depends on nothing but its key and size.

    Args:
        key: Seed of the set, name of the split and number of the scene.
        width: Width in pixels.
        height: Height in pixels.
        block: See :func:`rsfoundation.prepare.toy.planning.plan_scene`.
    """

    def __init__(self, key: tuple[int, str, int], width: int, height: int, block: str | None = None) -> None:
        self.key = key
        seed, split, index = key
        self._entropy = (seed, crc32(split.encode()), index)
        self.plan: ScenePlan = plan_scene(width, height, self._rng("plan"), block)
        self.objects: tuple[list[SceneObject], ...] = tuple(
            place_objects(self.plan, self._rng(f"things {date}"), self._rng("things"))
            for date in range(DATES)
        )

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([*self._entropy, crc32(purpose.encode())])

    @property
    def buildings(self) -> list[Building]:
        """The buildings at the first date."""
        return self.plan.buildings_at(0)

    @cached_property
    def canopy(self) -> Field:
        """Height of the tree crowns, on the fine canvas."""
        return grow_canopy(self.plan, self._rng("trees"))

    @cached_property
    def tree_mask(self) -> Mask:
        """Pixels ``(H, W)`` covered by tree crowns."""
        covered = shrink((self.canopy > 0).astype(np.float32), self.plan.width, self.plan.height)
        return covered >= 0.5

    def image(self, date: int = 0) -> NDArray[np.uint8]:
        """Draw the scene at a date; RGB ``(H, W, 3)``."""
        appearance = draw_appearance(self._rng(f"look {date}"))
        canvas = paint_ground(self.plan, appearance.season, wave_seed=date)
        self._draw_objects(canvas, date, appearance)
        for building in self.plan.buildings_at(date):
            draw_roof(canvas, building, appearance.sun)
        paint_canopy(canvas, self.canopy, appearance.sun, appearance.season, self._rng("leaves"))
        lit = shrink(self._lit(canvas, date, appearance), self.plan.width, self.plan.height)
        return record(lit, appearance)

    def _draw_objects(self, canvas: Canvas, date: int, appearance: Appearance) -> None:
        for item in self.objects[date]:
            if item.moving:
                _draw_wake(canvas, item)
        for item in self.objects[date]:
            if item.kind == "small-vehicle":
                _draw_car(canvas, item)
            elif item.kind == "large-vehicle":
                _draw_truck(canvas, item)
            elif item.kind == "ship":
                _draw_ship(canvas, item)
            else:
                _draw_tank(canvas, item, appearance.sun)

    def _lit(self, canvas: Canvas, date: int, appearance: Appearance) -> Field:
        shade = shade_map(self.plan, self.objects[date], self.plan.buildings_at(date), appearance.shadow)
        shade *= np.where(self.canopy > 0, np.float32(0.35), np.float32(1.0))
        dark = cv2.merge([shade, shade, shade]) * (1 - (1 - np.float32(appearance.shadow_depth)) * _SKY_LIGHT)
        return canvas * (1 - dark)

    def building_mask(self, date: int) -> Mask:
        """Pixels ``(H, W)`` covered by the buildings of a date."""
        mask = np.zeros((self.plan.height, self.plan.width), dtype=bool)
        for building in self.plan.buildings_at(date):
            mask |= polygon_mask(building.outline, self.plan.width, self.plan.height)
        return mask

    def change_mask(self) -> Mask:
        """Pixels ``(H, W)`` where a building is there at one date only."""
        return self.building_mask(0) ^ self.building_mask(1)
