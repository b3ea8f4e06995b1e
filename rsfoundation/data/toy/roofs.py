"""Buildings from above."""

import cv2
import numpy as np

from rsfoundation.data.toy.canvas import FINE, Canvas, Pen, Tone, fill, shade, stroke, to_canvas
from rsfoundation.data.toy.elements import Building
from rsfoundation.data.toy.geometry import Points

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
    """Draw a roof, its sides lit by how they face the sun."""
    rng = np.random.default_rng(building.seed)
    tones = {"gable": _TILES, "hip": _TILES, "flat": _FLATS, "metal": _METALS}[building.roof]
    paint = shade(tones[int(rng.integers(len(tones)))], rng.uniform(0.88, 1.1))
    pen = Pen(canvas, building.box)
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
    pen: Pen, building: Building, paint: Tone, sun: tuple[float, float], hip: float, slope: float = 0.24
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
        rows, columns = np.indices(shape, dtype=np.float32)
        heading = building.box.heading + (np.pi / 2 if building.roof != "metal" else 0.0)
        position = columns * np.float32(np.cos(heading)) + rows * np.float32(np.sin(heading))
        noise += strength * np.sin(position * np.float32(2 * np.pi / (pitch * FINE)))
    window = canvas[top:bottom, left:right]
    window[...] = np.clip(window + (noise * mask)[..., None], 0, 255).astype(np.uint8)


def _skylights(pen: Pen, rng: np.random.Generator) -> None:
    if rng.random() < 0.3:
        return
    for along in np.arange(-0.4, 0.41, 0.16):
        for across in (-0.32, 0.16):
            pen.rect(along, across, along + 0.05, across + 0.16, (226, 232, 232))


def _units(pen: Pen, rng: np.random.Generator, sun: tuple[float, float]) -> None:
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
