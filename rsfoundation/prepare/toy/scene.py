"""One toy scene: its pictures at two dates, and the labels that follow from the same plan."""

from functools import cached_property
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.prepare.toy.canvas import Canvas, Field, Look, draw_look, record, shade_map, shrink
from rsfoundation.prepare.toy.drawing import (
    draw_car,
    draw_roof,
    draw_ship,
    draw_tank,
    draw_truck,
    draw_wake,
    grow_canopy,
    paint_canopy,
    paint_ground,
)
from rsfoundation.prepare.toy.geometry import Mask, polygon_mask
from rsfoundation.prepare.toy.layout import occupy, plan_scene
from rsfoundation.prepare.toy.objects import DATES, Building, Plan, Thing

GSD = 0.22  # metres per pixel
_SKY_LIGHT = np.array([0.92, 0.98, 1.12], dtype=np.float32)  # what is left in the shade is bluish


class Scene:
    """A scene that depends on nothing but its key and size.

    Args:
        key: Seed of the set, name of the split and number of the scene.
        width: Width in pixels.
        height: Height in pixels.
    """

    def __init__(self, key: tuple[int, str, int], width: int, height: int) -> None:
        seed, split, index = key
        self._entropy = (seed, crc32(split.encode()), index)
        self.plan: Plan = plan_scene(width, height, self._rng("plan"))
        self.things: tuple[list[Thing], ...] = tuple(
            occupy(self.plan, self._rng(f"things {date}"), self._rng("things")) for date in range(DATES)
        )

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([*self._entropy, crc32(purpose.encode())])

    @property
    def buildings(self) -> list[Building]:
        """The buildings at the first date."""
        return self.plan.standing(0)

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
        look = draw_look(self._rng(f"look {date}"))
        canvas = paint_ground(self.plan, look.season, wave_seed=date)
        self._draw_things(canvas, date, look)
        for building in self.plan.standing(date):
            draw_roof(canvas, building, look.sun)
        paint_canopy(canvas, self.canopy, look.sun, look.season, self._rng("leaves"))
        lit = shrink(self._lit(canvas, date, look), self.plan.width, self.plan.height)
        return record(lit, look)

    def _draw_things(self, canvas: Canvas, date: int, look: Look) -> None:
        for thing in self.things[date]:
            if thing.moving:
                draw_wake(canvas, thing)
        for thing in self.things[date]:
            if thing.kind == "small-vehicle":
                draw_car(canvas, thing)
            elif thing.kind == "large-vehicle":
                draw_truck(canvas, thing)
            elif thing.kind == "ship":
                draw_ship(canvas, thing)
            else:
                draw_tank(canvas, thing, look.sun)

    def _lit(self, canvas: Canvas, date: int, look: Look) -> Field:
        shade = shade_map(self.plan, self.things[date], self.plan.standing(date), look.shadow)
        shade *= np.where(self.canopy > 0, np.float32(0.35), np.float32(1.0))
        dark = cv2.merge([shade, shade, shade]) * (1 - (1 - np.float32(look.shadow_depth)) * _SKY_LIGHT)
        return canvas * (1 - dark)

    def building_mask(self, date: int) -> Mask:
        """Pixels ``(H, W)`` covered by the buildings of a date."""
        mask = np.zeros((self.plan.height, self.plan.width), dtype=bool)
        for building in self.plan.standing(date):
            mask |= polygon_mask(building.outline, self.plan.width, self.plan.height)
        return mask

    def change_mask(self) -> Mask:
        """Pixels ``(H, W)`` where a building stands at one date only."""
        return self.building_mask(0) ^ self.building_mask(1)
