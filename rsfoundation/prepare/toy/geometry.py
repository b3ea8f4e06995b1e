"""Shapes of the toy scenes: boxes with a head, frames, and filling polygons exactly.

Points are ``(N, 2)`` arrays of image pixels, pixel centres at integers (see
``rsfoundation.geometry.boxes``).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Frame:
    """A rotated and shifted coordinate frame; ``angle`` in radians, clockwise on the screen."""

    x: float
    y: float
    angle: float

    def out(self, points: ArrayLike) -> Points:
        """Map points of this frame to the outer frame."""
        local = np.asarray(points, dtype=np.float64)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return local @ np.array([[cos, sin], [-sin, cos]]) + (self.x, self.y)

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Map one point.

        Args:
            x: In this frame.
            y: In this frame.
        """
        outer_x, outer_y = self.out([x, y])
        return float(outer_x), float(outer_y)

    def child(self, x: float, y: float, angle: float) -> "Frame":
        """Return the outer frame of a frame that is at ``x, y, angle`` in this one.

        Args:
            x: Place of the inner frame in this one.
            y: Likewise.
            angle: Its turn against this one.
        """
        return Frame(*self.point(x, y), self.angle + angle)


@dataclass(frozen=True)
class Box:
    """An oriented box whose head looks along ``heading`` (radians, clockwise from x)."""

    x: float
    y: float
    length: float
    width: float
    heading: float

    def at(self, points: ArrayLike) -> Points:
        """Map shape coordinates (1 is the full length forwards, the full width to the right) to pixels."""
        shape = np.asarray(points, dtype=np.float64) * (self.length, self.width)
        return Frame(self.x, self.y, self.heading).out(shape)

    def quad(self) -> Points:
        """Return the corners, clockwise from the left one of the head."""
        return self.at([(0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)])

    def grown(self, margin: float) -> "Box":
        """Return the box with ``margin`` pixels more on every side."""
        return Box(self.x, self.y, self.length + 2 * margin, self.width + 2 * margin, self.heading)

    def rotated_rect(self) -> tuple[tuple[float, float], tuple[float, float], float]:
        """Return the box as OpenCV's rotated rectangle."""
        return (self.x, self.y), (self.length, self.width), float(np.rad2deg(self.heading))


def rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    """Return the corners of an upright rectangle.

    Args:
        left: Smallest x.
        top: Smallest y.
        right: Largest x.
        bottom: Largest y.
    """
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64)


def ellipse(x: float, y: float, radius: float, count: int = 32) -> Points:
    """Return a circle as a polygon of ``count`` corners with the circle's area.

    Args:
        x: Centre.
        y: Centre.
        radius: In pixels.
        count: Corners.
    """
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    reach = radius / np.sqrt(np.sinc(2 / count))
    return np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], axis=1)


def sweep(outline: Points, offset: ArrayLike) -> Points:
    """Return the convex area that a convex outline covers while it is moved by ``offset``.

    Args:
        outline: Corners ``(N, 2)``, convex.
        offset: Shift (x, y).
    """
    both = np.concatenate([outline, outline + np.asarray(offset)]).astype(np.float32)
    return cv2.convexHull(both)[:, 0].astype(np.float64)


def visible_share(quad: Points, width: int, height: int) -> float:
    """Return the share of a convex polygon's area inside the image.

    Args:
        quad: Corners ``(N, 2)``, convex.
        width: Of the image.
        height: Of the image.
    """
    frame = rectangle(-0.5, -0.5, width - 0.5, height - 0.5)
    whole = abs(cv2.contourArea(quad.astype(np.float32)))
    inside, _ = cv2.intersectConvexConvex(quad.astype(np.float32), frame.astype(np.float32))
    return float(inside) / whole if whole else 0.0


def polygon_mask(outline: Points, width: int, height: int) -> Mask:
    """Return the pixels ``(height, width)`` whose centre is inside the polygon (even-odd rule).

    Args:
        outline: Corners ``(N, 2)``.
        width: Of the image.
        height: Of the image.
    """
    mask = np.zeros((height, width), dtype=bool)
    left, top = np.clip(np.ceil(outline.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.floor(outline.max(axis=0)) + 1, 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return mask
    window = mask[top:bottom, left:right]
    columns = np.arange(left, right)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        low, high = sorted((y1, y2))
        first, last = (int(np.clip(np.ceil(y), top, bottom)) for y in (low, high))  # a row at `high` is out
        if last <= first:
            continue
        crossing = x1 + (np.arange(first, last) - y1) * (x2 - x1) / (y2 - y1)
        window[first - top : last - top] ^= columns >= crossing[:, None]
    return mask
