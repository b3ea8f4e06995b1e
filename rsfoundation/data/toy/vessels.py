"""Ships and storage tanks from above."""

import cv2
import numpy as np

from rsfoundation.data.toy.canvas import Canvas, Pen, Tone, fill, shade, stroke
from rsfoundation.data.toy.elements import Thing
from rsfoundation.data.toy.geometry import ellipse

_HULLS: tuple[Tone, ...] = (
    (232, 232, 228),
    (214, 212, 206),
    (70, 76, 84),
    (120, 50, 42),
    (46, 66, 96),
    (196, 190, 176),
)
_DECKS: tuple[Tone, ...] = ((196, 190, 178), (168, 140, 108), (150, 152, 152), (140, 76, 60), (104, 124, 112))
_CARGO: tuple[Tone, ...] = ((176, 62, 48), (58, 96, 148), (200, 160, 70), (206, 206, 204), (74, 120, 84))
_TANKS: tuple[Tone, ...] = (
    (236, 236, 232),
    (226, 224, 216),
    (206, 206, 204),
    (190, 184, 168),
    (164, 128, 104),
)


def draw_ship(canvas: Canvas, thing: Thing) -> None:
    """Draw a ship: hull, deck, bridge near the stern, and hatches, containers or masts."""
    rng = np.random.default_rng(thing.seed)
    hull, deck = (tones[int(rng.integers(len(tones)))] for tones in (_HULLS, _DECKS))
    pen = Pen(canvas, thing.box)
    outline = thing.outline()
    fill(canvas, outline, hull)
    inner = (outline - (thing.box.x, thing.box.y)) * (0.92, 0.92) + (thing.box.x, thing.box.y)
    fill(canvas, inner, deck)
    stroke(canvas, outline, shade(hull, 0.6), closed=True)
    bridge = rng.uniform(-0.34, -0.2)
    _deck_load(pen, rng, bridge, deck)
    pen.rect(bridge - 0.1, -0.36, bridge + 0.07, 0.36, (206, 206, 202))
    pen.rect(bridge - 0.08, -0.3, bridge + 0.04, 0.3, (242, 242, 240))
    pen.rect(bridge + 0.045, -0.3, bridge + 0.065, 0.3, (40, 46, 54))
    pen.disc(bridge - 0.05, 0.0, 0.12 * thing.box.width, (120, 50, 44))


def _deck_load(pen: Pen, rng: np.random.Generator, bridge: float, deck: Tone) -> None:
    start, end = bridge + 0.11, 0.3
    style = rng.random()
    if style < 0.4:  # hatches
        for along in np.linspace(start, end, 4)[:-1]:
            pen.rect(along + 0.02, -0.26, along + 0.11, 0.26, shade(deck, 0.7))
            pen.rect(along + 0.03, -0.22, along + 0.1, 0.22, shade(deck, 1.15))
    elif style < 0.75:  # containers
        for along in np.arange(start, end - 0.06, 0.075):
            for across in (-0.3, -0.1, 0.1):
                pen.rect(along, across, along + 0.066, across + 0.18, _CARGO[int(rng.integers(len(_CARGO)))])
    else:  # pipes of a tanker
        for across in (-0.16, 0.0, 0.16):
            pen.line([(start, across), (end, across)], shade(deck, 0.6))
        pen.rect((start + end) / 2 - 0.02, -0.32, (start + end) / 2 + 0.02, 0.32, shade(deck, 1.3))


def draw_wake(canvas: Canvas, thing: Thing) -> None:
    """Draw the foam behind a ship under way."""
    rng = np.random.default_rng(thing.seed + 1)
    foam = np.zeros(canvas.shape[:2], dtype=np.uint8)
    reach = -0.5 - rng.uniform(0.5, 0.9)
    trail = [(-0.42, -0.35), (-0.42, 0.35), (reach, 0.55), (reach, -0.55)]
    fill(foam, thing.box.at(trail), 26)
    for side in (-1, 1):
        fill(
            foam,
            thing.box.at([(0.3, 0.4 * side), (-0.5, 0.75 * side), (reach, side), (-0.5, 0.6 * side)]),
            64,
        )
    foam = np.asarray(cv2.GaussianBlur(foam, (0, 0), 4.0), dtype=np.uint8)
    cv2.add(canvas, cv2.merge([foam] * 3), canvas)


def draw_tank(canvas: Canvas, thing: Thing, sun: tuple[float, float]) -> None:
    """Draw a storage tank: wall, roof lit from the sun's side, rim and stairs."""
    rng = np.random.default_rng(thing.seed)
    paint = _TANKS[int(rng.integers(len(_TANKS)))]
    x, y, radius = thing.box.x, thing.box.y, thing.box.length / 2
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
