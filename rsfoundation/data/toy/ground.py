"""Painting the ground: regions, paint on them, and crowns of trees."""

import cv2
import numpy as np

from rsfoundation.data.toy.canvas import FINE, Canvas, fill, to_canvas
from rsfoundation.data.toy.elements import Plan, Region, Stripe
from rsfoundation.data.toy.geometry import Points
from rsfoundation.data.toy.textures import Field, fractal, material_texture, mix

_SOFT = {"soil": 2.0, "sand": 2.5, "gravel": 1.2, "meadow": 1.2}  # blur of edges in pixels


def paint_ground(plan: Plan, season: float, wave_seed: int) -> Canvas:
    """Return the ground as a canvas, RGB.

    Args:
        plan: The scene.
        season: See :class:`~.look.Look`.
        wave_seed: Waves differ from date to date.
    """
    ground = np.full((plan.height, plan.width, 3), 110, dtype=np.float32)
    for region in plan.regions:
        _paint_region(ground, region, season, wave_seed)
    size = (plan.width * FINE, plan.height * FINE)
    canvas: Canvas = np.empty((size[1], size[0], 3), dtype=np.uint8)
    cv2.resize(np.clip(ground, 0, 255).astype(np.uint8), size, canvas, interpolation=cv2.INTER_LINEAR)
    for stripe in plan.stripes:
        _paint_stripe(canvas, stripe)
    return canvas


def _paint_region(ground: Field, region: Region, season: float, wave_seed: int) -> None:
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


def _paint_stripe(canvas: Canvas, stripe: Stripe) -> None:
    line = stripe.end - stripe.start
    length = float(np.hypot(*line))
    if length == 0:
        return
    forward = line / length
    side = np.array([-forward[1], forward[0]]) * stripe.width / 2
    period = stripe.dash * 2 if stripe.dash else length
    reach = stripe.dash or length
    for begin in np.arange(0, length, period):
        a = stripe.start + forward * begin
        b = stripe.start + forward * min(begin + reach, length)
        tone = stripe.tone
        fill(canvas, np.array([a - side, b - side, b + side, a + side]), (tone, tone, tone * 0.97))


def grow_canopy(plan: Plan, rng: np.random.Generator) -> Field:
    """Return the height of tree crowns on the canvas (0 where there is none), in image pixels."""
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
    """Draw the crowns over the canvas, lit from the sun's side."""
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
