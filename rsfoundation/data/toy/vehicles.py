"""Cars and trucks from above."""

import numpy as np

from rsfoundation.data.toy.canvas import Canvas, Pen, Tone, fill, shade, stroke
from rsfoundation.data.toy.elements import Thing

_GLASS: Tone = (34, 40, 48)
_PAINTS: tuple[Tone, ...] = (
    (236, 236, 234), (240, 240, 238), (196, 198, 200), (60, 62, 66), (34, 34, 36),
    (150, 34, 32), (44, 70, 120), (208, 200, 180), (216, 180, 60), (66, 96, 80),
)  # fmt: skip
_CARGO: tuple[Tone, ...] = (
    (238, 238, 236), (244, 244, 242), (226, 224, 214), (206, 206, 208), (222, 188, 66),
    (176, 58, 44), (62, 98, 150),
)  # fmt: skip
_CABS: tuple[Tone, ...] = ((232, 232, 230), (180, 44, 38), (50, 82, 140), (214, 178, 60), (70, 74, 80))


def draw_car(canvas: Canvas, thing: Thing) -> None:
    """Draw a passenger car or van."""
    rng = np.random.default_rng(thing.seed)
    paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
    pen = Pen(canvas, thing.box)
    outline = thing.outline()
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


def draw_truck(canvas: Canvas, thing: Thing) -> None:
    """Draw a truck with its cargo box, or a bus."""
    rng = np.random.default_rng(thing.seed)
    box = _CARGO[int(rng.integers(len(_CARGO)))]
    pen = Pen(canvas, thing.box)
    outline = thing.outline()
    if rng.random() < 0.3:
        _bus(pen, canvas, thing, box)
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


def _bus(pen: Pen, canvas: Canvas, thing: Thing, paint: Tone) -> None:
    outline = thing.outline()
    fill(canvas, outline, paint)
    pen.rect(0.44, -0.42, 0.475, 0.42, _GLASS)
    for along in (0.2, -0.12, -0.36):
        pen.rect(along - 0.05, -0.22, along + 0.05, 0.22, shade(paint, 0.8))
    for side in (-0.44, 0.44):
        pen.line([(0.42, side), (-0.46, side)], shade(paint, 0.55))
    stroke(canvas, outline, shade(paint, 0.6), closed=True)
