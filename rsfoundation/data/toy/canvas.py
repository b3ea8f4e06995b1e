"""Drawing polygons on a picture that is finer than the image it becomes."""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsfoundation.data.toy.geometry import Box, Points

FINE = 2  # canvas pixels per image pixel
_SHIFT = 4  # bits of OpenCV's fixed-point coordinates

Canvas = NDArray[np.uint8]
Tone = tuple[float, float, float]


def to_canvas(points: ArrayLike) -> NDArray[np.int32]:
    """Map image pixels to OpenCV's fixed-point canvas coordinates."""
    fine = np.asarray(points, dtype=np.float64) * FINE + (FINE - 1) / 2
    return np.round(fine * 2**_SHIFT).astype(np.int32)


def fill(canvas: Canvas, outline: Points, colour: Tone | float) -> None:
    """Fill a polygon given in image pixels, with smooth edges."""
    cv2.fillPoly(canvas, [to_canvas(outline)], _clip(colour), cv2.LINE_AA, _SHIFT)


def stroke(canvas: Canvas, points: Points, colour: Tone | float, *, closed: bool = False) -> None:
    """Draw a line one canvas pixel wide through points."""
    cv2.polylines(canvas, [to_canvas(points)], closed, _clip(colour), 1, cv2.LINE_AA, _SHIFT)


def shrink(canvas: NDArray, width: int, height: int) -> NDArray:
    """Average the canvas down to the image."""
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)


def _clip(colour: Tone | float) -> tuple[float, ...]:
    return tuple(float(value) for value in np.clip(np.atleast_1d(colour), 0, 255))


class Pen:
    """Draws in the shape coordinates of one box; see :meth:`Box.at`."""

    def __init__(self, canvas: Canvas, box: Box) -> None:
        self.canvas, self.box = canvas, box

    def poly(self, points: ArrayLike, colour: Tone) -> None:
        """Fill a polygon."""
        fill(self.canvas, self.box.at(points), colour)

    def rect(self, back: float, left: float, front: float, right: float, colour: Tone) -> None:
        """Fill a rectangle between two lengths and two widths."""
        self.poly([(front, left), (front, right), (back, right), (back, left)], colour)

    def line(self, points: ArrayLike, colour: Tone) -> None:
        """Draw a thin line."""
        stroke(self.canvas, self.box.at(points), colour)

    def disc(self, along: float, across: float, radius: float, colour: Tone) -> None:
        """Fill a circle; ``radius`` in image pixels."""
        ((x, y),) = self.box.at([(along, across)])
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        fill(self.canvas, np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1), colour)


def shade(colour: Tone, factor: float) -> Tone:
    """Return a colour made brighter or darker."""
    red, green, blue = (float(np.clip(value * factor, 0, 255)) for value in colour)
    return red, green, blue
