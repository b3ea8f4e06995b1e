"""Blocks with water: harbours, and whole scenes along a coast."""

import numpy as np

from rsfoundation.data.toy.geometry import Points
from rsfoundation.data.toy.pad import Pad

_UP, _DOWN = -np.pi / 2, np.pi / 2


def harbour(pad: Pad) -> None:
    """Quay at the top with vehicles and a shed, piers with ships on both sides, ships under way."""
    rng = pad.rng
    pad.cover("water", angle=rng.uniform(0, np.pi))
    quay = pad.top + rng.uniform(44, 60)
    pad.area(pad.left, pad.top, -pad.left, quay, "concrete", layer=1)
    pad.line((pad.left, quay - 2), (-pad.left, quay - 2), 2, tone=205)
    shed = rng.uniform(50, 90)
    pad.building(pad.left + 20 + shed / 2, pad.top + 17, shed, 26, roof="metal", height=16)
    for x in np.arange(pad.left + 16, -pad.left - 16, 25):
        pad.slot("small-vehicle" if rng.random() < 0.7 else "large-vehicle", x, quay - 10, 0.0, 0.3, wander=2)
    if rng.random() < 0.65:
        _piers(pad, quay)
    else:
        _quayside(pad, quay)


def _piers(pad: Pad, quay: float) -> None:
    rng = pad.rng
    length, width = rng.uniform(46, 78), rng.uniform(14, 20)
    pitch = 2 * width + 12 + rng.uniform(18, 30)
    reach = min(-pad.top - quay - 14, 2 * length + 16)
    for x in np.arange(pad.left + pitch * 0.55, -pad.left - pitch * 0.4, pitch):
        pad.area(x - 5, quay - 2, x + 5, quay + reach, "concrete", layer=1)
        for side in (-1, 1):
            for step in range(int(reach / (length + 6))):
                size = (length * rng.uniform(0.85, 1), width * rng.uniform(0.85, 1))
                y = quay + 6 + length / 2 + step * (length + 6)
                where = x + side * (6.5 + size[1] / 2)
                pad.slot("ship", where, y, float(rng.choice([_UP, _DOWN])), 0.7, size=size, wander=0.8)


def _quayside(pad: Pad, quay: float) -> None:
    """Moor ships along the quay, and let some pass by."""
    rng = pad.rng
    x = pad.left + 10
    while x + 80 < -pad.left:
        length, width = rng.uniform(64, 110), rng.uniform(17, 25)
        heading = float(rng.choice([0, np.pi]))
        pad.slot(
            "ship", x + length / 2, quay + 2 + width / 2, heading, 0.85, size=(length, width), wander=0.8
        )
        x += length + 10
    sailing(pad, pad.left + 30, quay + 50, -pad.left - 30, -pad.top - 20)


def sailing(pad: Pad, left: float, top: float, right: float, bottom: float) -> None:
    """Let ships lie or pass anywhere in a rectangle of water."""
    step = 64.0
    for x in np.arange(left + step / 2, right, step):
        for y in np.arange(top + step / 2, bottom, step):
            heading = pad.rng.uniform(-np.pi, np.pi)
            pad.slot("ship", x, y, heading, 0.75, wander=24, spin=0.8, moving=bool(pad.rng.random() < 0.4))


def coast(pad: Pad) -> None:
    """Open water with a beach and houses at the top."""
    rng = pad.rng
    pad.cover("water", angle=rng.uniform(0, np.pi))
    shore = pad.top + pad.height * rng.uniform(0.2, 0.38)
    pad.shape(_shore(pad, shore + 10, swing=14), "sand", layer=1)
    pad.shape(_shore(pad, shore - 10, swing=6), "grass", layer=1)
    x = pad.left + 40
    while x < -pad.left - 40:
        if rng.random() < 0.6:
            y = shore - rng.uniform(60, 80)
            pad.building(x, y, rng.uniform(40, 56), rng.uniform(30, 40), roof="hip", height=16)
        for _ in range(3):
            pad.tree(x + rng.uniform(-40, 40), shore - rng.uniform(26, 110), rng.uniform(6, 12))
        x += rng.uniform(70, 90)
    sailing(pad, pad.left + 20, shore + 40, -pad.left - 20, -pad.top - 10)


def _shore(pad: Pad, level: float, swing: float) -> Points:
    """Return the land above a wavy line."""
    x = np.linspace(pad.left, -pad.left, 60)
    y = level + sum(
        swing / order * np.sin(x / pad.width * order * np.pi * 3 + pad.rng.uniform(0, 6))
        for order in (1, 2, 4)
    )
    return np.concatenate([[(pad.left, pad.top), (-pad.left, pad.top)], np.c_[x, y][::-1]])
