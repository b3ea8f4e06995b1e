"""Ground textures from fractal noise. Colours are RGB, ``float32``, 0..255."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.toy.elements import Material

Field = NDArray[np.float32]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How a material looks.

    Attributes:
        light: Colour of its light patches.
        dark: Colour of its dark patches.
        autumn: Colour that the season mixes in; ``None`` where it does not change.
        patch: Size of the largest patches in pixels.
        grain: Strength of the noise from pixel to pixel, in grey levels.
    """

    light: Colour
    dark: Colour
    autumn: Colour | None
    patch: float
    grain: float


RECIPES: dict[Material, Recipe] = {
    "grass": Recipe((112, 124, 78), (70, 88, 48), (146, 128, 86), 70, 5),
    "meadow": Recipe((140, 136, 96), (92, 98, 60), (158, 138, 98), 110, 7),
    "soil": Recipe((164, 140, 112), (122, 100, 78), None, 50, 7),
    "field": Recipe((142, 132, 92), (98, 98, 58), (160, 136, 100), 120, 5),
    "sand": Recipe((204, 190, 156), (172, 156, 122), None, 60, 5),
    "asphalt": Recipe((126, 126, 124), (98, 99, 100), None, 90, 4),
    "concrete": Recipe((182, 178, 168), (146, 144, 138), None, 80, 4),
    "gravel": Recipe((160, 152, 138), (128, 122, 112), None, 50, 9),
    "water": Recipe((54, 84, 88), (30, 58, 68), None, 160, 1.5),
}


def fractal(shape: tuple[int, int], rng: np.random.Generator, coarsest: float, octaves: int = 5) -> Field:
    """Return smooth noise of about unit spread whose largest blobs are ``coarsest`` pixels wide."""
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


def mix(first: Colour | Field, second: Colour | Field, share: Field) -> Field:
    """Blend two colours; ``share`` 1 is the second one."""
    one, two = _planes(first), _planes(second)
    planes = [a + (b - a) * share for a, b in zip(one, two, strict=True)]
    return np.asarray(cv2.merge(planes), dtype=np.float32)


def _planes(colour: Colour | Field) -> Sequence[Any]:
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
    recipe = RECIPES[material]
    tint = rng.normal(0, 2.2, 3) + rng.normal(0, 7)
    patches = fractal(shape, rng, recipe.patch)
    colour = mix(recipe.light, recipe.dark, np.clip(0.5 + 0.3 * patches, 0, 1)) + tint.astype(np.float32)
    if recipe.autumn is not None:
        colour = mix(colour, recipe.autumn, np.float32(season * 0.75) * np.clip(0.6 + 0.2 * patches, 0, 1))
    detail = recipe.grain * rng.standard_normal(shape, dtype=np.float32)
    if material == "field":
        detail += furrows(shape, rng, angle)
    elif material == "water":
        detail += ripples(shape, rng, angle)
    elif material in ("asphalt", "concrete"):
        detail += wear(shape, rng)
    return colour + np.asarray(cv2.merge([detail] * 3))


def along(shape: tuple[int, int], angle: float) -> Field:
    """Return for each pixel its distance in pixels along a direction."""
    rows, columns = np.indices(shape, dtype=np.float32)
    return columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))


def furrows(shape: tuple[int, int], rng: np.random.Generator, angle: float) -> Field:
    """Return the relief of a ploughed or sown field: rows, and wider tracks of the tractor."""
    position = along(shape, angle + np.pi / 2) + 1.2 * fractal(shape, rng, 60, 2)
    pitch, strength = rng.uniform(5, 9), rng.uniform(5, 13)
    rows = strength * np.sin(position * (2 * np.pi / pitch))
    tracks = -14 * (np.mod(position, pitch * 8) < 2.2)
    return (rows + tracks).astype(np.float32) + 5 * fractal(shape, rng, 24, 3)


def ripples(shape: tuple[int, int], rng: np.random.Generator, angle: float) -> Field:
    """Return waves: crests across the wind, broken by noise, with a few glints."""
    bend = fractal(shape, rng, 40, 3)
    waves = np.zeros(shape, dtype=np.float32)
    for pitch in (rng.uniform(9, 13), rng.uniform(5, 7)):
        waves += np.sin((along(shape, angle + rng.normal(0, 0.2)) + 4 * bend) * np.float32(2 * np.pi / pitch))
    chop = fractal(shape, rng, 6, 3)
    return 1.6 * waves * (1 + 0.5 * bend) + 2.2 * chop + 16 * np.clip(chop + 0.3 * waves - 2.3, 0, 1.5)


def wear(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Return stains, patches and cracks of a sealed surface."""
    stains = -9 * np.clip(fractal(shape, rng, 16, 3) - 0.9, 0, 2)
    crack = np.abs(fractal(shape, rng, 48, 4))
    return stains - 10 * np.clip(1 - crack / 0.03, 0, 1)
