"""Light, season and camera of one date."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsfoundation.prepare.toy.geometry import Box, Points, ellipse, sweep
from rsfoundation.prepare.toy.scene_model import Building, Kind, Material, SceneObject, ScenePlan

FINE = 2  # canvas pixels per image pixel
_SHIFT = 4  # bits of OpenCV's fixed-point coordinates

Canvas = NDArray[np.uint8]
Tone = tuple[float, float, float]


def to_canvas(points: ArrayLike) -> NDArray[np.int32]:
    """Map image pixels to OpenCV's fixed-point canvas coordinates."""
    fine = np.asarray(points, dtype=np.float64) * FINE + (FINE - 1) / 2
    return np.round(fine * 2**_SHIFT).astype(np.int32)


def fill(canvas: Canvas, outline: Points, colour: Tone | float) -> None:
    """Fill a polygon given in image pixels, with smooth edges.

    Args:
        canvas: Drawn on.
        outline: Corners in image pixels.
        colour: RGB, or grey.
    """
    cv2.fillPoly(canvas, [to_canvas(outline)], _clip(colour), cv2.LINE_AA, _SHIFT)


def stroke(canvas: Canvas, points: Points, colour: Tone | float, *, closed: bool = False) -> None:
    """Draw a line one canvas pixel wide through points.

    Args:
        canvas: Drawn on.
        points: In image pixels.
        colour: RGB, or grey.
        closed: Whether the last point is joined to the first.
    """
    cv2.polylines(canvas, [to_canvas(points)], closed, _clip(colour), 1, cv2.LINE_AA, _SHIFT)


def shrink(canvas: NDArray, width: int, height: int) -> NDArray:
    """Average the canvas down to the image.

    Args:
        canvas: Fine pixels.
        width: Of the image.
        height: Of the image.
    """
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def _clip(colour: Tone | float) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(np.atleast_1d(colour), 0, 255))


class BoxPen:
    """Draws in the shape coordinates of one box; see :meth:`Box.at`."""

    def __init__(self, canvas: Canvas, box: Box) -> None:
        self.canvas, self.box = canvas, box

    def poly(self, points: ArrayLike, colour: Tone) -> None:
        """Fill a polygon.

        Args:
            points: In shape coordinates.
            colour: RGB.
        """
        fill(self.canvas, self.box.at(points), colour)

    def rect(self, back: float, left: float, front: float, right: float, colour: Tone) -> None:
        """Fill a rectangle between two lengths and two widths.

        Args:
            back: Smallest length, in shape coordinates.
            left: Smallest width.
            front: Largest length.
            right: Largest width.
            colour: RGB.
        """
        self.poly([(front, left), (front, right), (back, right), (back, left)], colour)

    def line(self, points: ArrayLike, colour: Tone) -> None:
        """Draw a thin line.

        Args:
            points: In shape coordinates.
            colour: RGB.
        """
        stroke(self.canvas, self.box.at(points), colour)

    def disc(self, along: float, across: float, radius: float, colour: Tone) -> None:
        """Fill a circle; ``radius`` in image pixels.

        Args:
            along: Centre, in shape coordinates.
            across: Centre.
            radius: In image pixels.
            colour: RGB.
        """
        ((x, y),) = self.box.at([(along, across)])
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        fill(self.canvas, np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1), colour)


def shade(colour: Tone, factor: float) -> Tone:
    """Return a colour made brighter or darker.

    Args:
        colour: RGB.
        factor: Above 1 is brighter.
    """
    red, green, blue = (float(np.clip(value * factor, 0, 255)) for value in colour)
    return red, green, blue


Field = NDArray[np.float32]


@dataclass(frozen=True)
class MaterialStyle:
    """How a material looks.

    Attributes:
        light: Colour of its light patches.
        dark: Colour of its dark patches.
        autumn: Colour that the season mixes in; ``None`` where it does not change.
        patch: Size of the largest patches in pixels.
        grain: Strength of the noise from pixel to pixel, in grey levels.
    """

    light: Tone
    dark: Tone
    autumn: Tone | None
    patch: float
    grain: float


MATERIAL_STYLES: dict[Material, MaterialStyle] = {
    "grass": MaterialStyle((112, 124, 78), (70, 88, 48), (146, 128, 86), 70, 5),
    "meadow": MaterialStyle((140, 136, 96), (92, 98, 60), (158, 138, 98), 110, 7),
    "soil": MaterialStyle((164, 140, 112), (122, 100, 78), None, 50, 7),
    "field": MaterialStyle((142, 132, 92), (98, 98, 58), (160, 136, 100), 120, 5),
    "sand": MaterialStyle((204, 190, 156), (172, 156, 122), None, 60, 5),
    "asphalt": MaterialStyle((126, 126, 124), (98, 99, 100), None, 90, 4),
    "concrete": MaterialStyle((182, 178, 168), (146, 144, 138), None, 80, 4),
    "gravel": MaterialStyle((160, 152, 138), (128, 122, 112), None, 50, 9),
    "water": MaterialStyle((54, 84, 88), (30, 58, 68), None, 160, 1.5),
}


def fractal(shape: tuple[int, int], rng: np.random.Generator, coarsest: float, octaves: int = 5) -> Field:
    """Return smooth noise of about unit spread whose largest blobs are ``coarsest`` pixels wide.

    Args:
        shape: Height and width.
        rng: Of the noise.
        coarsest: Size of the largest blobs in pixels.
        octaves: Resolutions that are added.
    """
    height, width = shape
    total = np.zeros((1, 1), dtype=np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):  # each octave is added at its own resolution, which is cheap
        cell = max(coarsest / 2**octave, 1.0)
        knots = rng.standard_normal((int(height / cell) + 3, int(width / cell) + 3), dtype=np.float32)
        total = _enlarge(total, knots.shape) + np.float32(weight) * knots
        power += weight**2
        weight *= 0.62
    return _enlarge(total, shape) / np.float32(np.sqrt(power))


def _enlarge(values: Field, shape: tuple[int, ...]) -> Field:
    return np.asarray(cv2.resize(values, shape[1::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def mix(first: Tone | Field, second: Tone | Field, share: Field) -> Field:
    """Blend two colours; ``share`` 1 is the second one.

    Args:
        first: A colour, or one per pixel.
        second: Likewise.
        share: Of the second one, per pixel.
    """
    one, two = _planes(first), _planes(second)
    planes = [a + (b - a) * share for a, b in zip(one, two, strict=True)]
    return np.asarray(cv2.merge(planes), dtype=np.float32)


def _planes(colour: Tone | Field) -> Sequence[Any]:
    return colour if isinstance(colour, tuple) else cv2.split(colour)


def material_texture(
    material: Material, shape: tuple[int, int], seed: int, *, season: float = 0.0, angle: float = 0.0
) -> Field:
    """Return ``(H, W, 3)`` of a material.

    Args:
        material: What to show.
        shape: Height and width.
        seed: Where its patches are.
        season: 0 summer, 1 late autumn; vegetation turns.
        angle: Direction of furrows or waves in radians.
    """
    rng = np.random.default_rng(seed)
    style = MATERIAL_STYLES[material]
    tint = rng.normal(0, 2.2, 3) + rng.normal(0, 7)
    patches = fractal(shape, rng, style.patch)
    colour = mix(style.light, style.dark, np.clip(0.5 + 0.3 * patches, 0, 1)) + tint.astype(np.float32)
    if style.autumn is not None:
        colour = mix(colour, style.autumn, np.float32(season * 0.75) * np.clip(0.6 + 0.2 * patches, 0, 1))
    detail = style.grain * rng.standard_normal(shape, dtype=np.float32)
    if material == "field":
        detail += _furrows(shape, rng, angle)
    elif material == "water":
        detail += _ripples(shape, rng, angle)
    elif material in ("asphalt", "concrete"):
        detail += _wear(shape, rng)
    return colour + np.asarray(cv2.merge([detail] * 3))


def distance_along(shape: tuple[int, int], angle: float) -> Field:
    """Return for each pixel its distance in pixels along a direction.

    Args:
        shape: Height and width.
        angle: Of the direction, in radians.
    """
    rows, columns = np.indices(shape, dtype=np.float32)
    return columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))


def _furrows(shape: tuple[int, int], rng: np.random.Generator, angle: float) -> Field:
    """Return the relief of a ploughed or sown field: rows, and wider tracks of the tractor."""
    position = distance_along(shape, angle + np.pi / 2) + 1.2 * fractal(shape, rng, 60, 2)
    pitch, strength = rng.uniform(5, 9), rng.uniform(5, 13)
    rows = strength * np.sin(position * (2 * np.pi / pitch))
    tracks = -14 * (np.mod(position, pitch * 8) < 2.2)
    return (rows + tracks).astype(np.float32) + 5 * fractal(shape, rng, 24, 3)


def _ripples(shape: tuple[int, int], rng: np.random.Generator, angle: float) -> Field:
    """Return waves: crests across the wind, broken by noise, with a few glints."""
    bend = fractal(shape, rng, 40, 3)
    waves = np.zeros(shape, dtype=np.float32)
    for pitch in (rng.uniform(9, 13), rng.uniform(5, 7)):
        position = distance_along(shape, angle + rng.normal(0, 0.2)) + 4 * bend
        waves += np.sin(position * np.float32(2 * np.pi / pitch))
    chop = fractal(shape, rng, 6, 3)
    return 1.6 * waves * (1 + 0.5 * bend) + 2.2 * chop + 16 * np.clip(chop + 0.3 * waves - 2.3, 0, 1.5)


def _wear(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Return stains, patches and cracks of a sealed surface."""
    stains = -9 * np.clip(fractal(shape, rng, 16, 3) - 0.9, 0, 2)
    crack = np.abs(fractal(shape, rng, 48, 4))
    return stains - 10 * np.clip(1 - crack / 0.03, 0, 1)


_HEIGHTS: dict[Kind, float] = {"small-vehicle": 5, "large-vehicle": 10, "ship": 7, "storage-tank": 15}
_CROWN = 0.9  # height of a tree's shade in crown radii


def shade_map(
    plan: ScenePlan,
    objects: Sequence[SceneObject],
    buildings: Sequence[Building],
    shadow: tuple[float, float],
) -> Field:
    """Return how much each canvas pixel is shaded, 0..1.

    Lower objects come first: higher ones then shade them, but not the other way round.

    Args:
        plan: The scene.
        objects: Present at the date.
        buildings: Present at the date.
        shadow: Shift of a shadow per pixel of height (x, y).
    """
    shade = np.zeros((plan.height * FINE, plan.width * FINE), dtype=np.uint8)
    reach = np.asarray(shadow)
    for kind in sorted(_HEIGHTS, key=lambda kind: _HEIGHTS[kind]):
        outlines = [item.outline() for item in objects if item.kind == kind]
        _cast(shade, outlines, [reach * _HEIGHTS[kind]] * len(outlines))
    for tree in plan.trees:
        crown = ellipse(tree.x, tree.y, tree.radius * 0.95, 16)
        fill(shade, sweep(crown, reach * tree.radius * _CROWN), 255)
    parts = [(part, reach * building.height) for building in buildings for part in building.parts]
    _cast(shade, [part for part, _ in parts], [offset for _, offset in parts])
    soft = cv2.GaussianBlur(shade, (0, 0), 0.7 * FINE)
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def _cast(shade: np.ndarray, outlines: Sequence[Points], offsets: Sequence[np.ndarray]) -> None:
    for outline, offset in zip(outlines, offsets, strict=True):
        fill(shade, sweep(outline, offset), 255)
    for outline in outlines:
        fill(shade, outline, 0)


@dataclass(frozen=True)
class Appearance:
    """How a scene is lit and recorded at one date.

    Attributes:
        shadow: Shift of a shadow per pixel of height (x, y).
        shadow_depth: Share of the light that a shadow takes away.
        gain: Brightness.
        warmth: Red against blue.
        haze: Share of grey veil.
        season: 0 summer, 1 late autumn.
        blur: Standard deviation of the optics in pixels.
        noise: Standard deviation of the sensor in grey levels.
        quality: JPEG quality of the source.
        seed: Seed of the sensor noise.
    """

    shadow: tuple[float, float]
    shadow_depth: float
    gain: float
    warmth: float
    haze: float
    season: float
    blur: float
    noise: float
    quality: int
    seed: int

    @property
    def sun(self) -> tuple[float, float]:
        """Unit vector towards the sun in the image plane."""
        norm = float(np.hypot(*self.shadow))
        return -self.shadow[0] / norm, -self.shadow[1] / norm


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """Draw the appearance of a date."""
    azimuth, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
    return Appearance(
        shadow=(reach * float(np.cos(azimuth)), reach * float(np.sin(azimuth))),
        shadow_depth=rng.uniform(0.45, 0.65),
        gain=rng.uniform(0.92, 1.28),
        warmth=rng.uniform(-0.03, 0.05),
        haze=rng.uniform(0.0, 0.16),
        season=float(rng.choice([0.0, rng.uniform(0, 1)])),
        blur=rng.uniform(0.3, 0.65),
        noise=rng.uniform(1.0, 3.5),
        quality=int(rng.integers(78, 96)),
        seed=int(rng.integers(2**31)),
    )


def record(picture: Field, appearance: Appearance) -> NDArray[np.uint8]:
    """Turn a lit scene ``(H, W, 3)`` into what the camera delivers.

    Args:
        picture: Lit scene, RGB.
        appearance: Of the date.
    """
    tint = np.array([1 + appearance.warmth, 1.0, 1 - appearance.warmth], dtype=np.float32) * np.float32(
        appearance.gain
    )
    seen = picture * tint
    seen += (np.array([172, 178, 186], dtype=np.float32) - seen) * np.float32(appearance.haze)
    seen = cv2.GaussianBlur(seen, (0, 0), appearance.blur)
    rng = np.random.default_rng(appearance.seed)
    height, width = seen.shape[:2]
    seen += appearance.noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    seen += 0.5 * appearance.noise * rng.standard_normal(seen.shape, dtype=np.float32)
    image = np.clip(seen, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, appearance.quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
