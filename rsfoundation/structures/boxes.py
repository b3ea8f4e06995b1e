"""Box, angle and pixel conventions, stated once, and the conversions between them.

Pixels
    x runs right, y runs down, and a pixel's *centre* is at integer coordinates: an image of width
    ``W`` reaches from -0.5 to ``W - 0.5``. Mirroring maps x to ``W - 1 - x``, and an image turns
    about ``((W - 1) / 2, (H - 1) / 2)``.
Oriented boxes ("rbox")
    ``(cx, cy, w, h, theta)``; theta in radians, positive clockwise on the screen: the side of length
    ``w`` points along ``(cos theta, sin theta)``. Objects have no heading: theta and theta + pi are
    the same box, and so are ``(w, h, theta)`` and ``(h, w, theta + pi/2)``. A *version* picks one:

    ========  ======================  ==========
    version   theta                   sides
    ========  ======================  ==========
    le90      [-pi/2, pi/2)           w >= h
    le135     [-pi/4, 3 pi/4)         w >= h
    oc        [-pi/2, 0)              any
    ========  ======================  ==========

    ``oc`` is that of mmrotate 1.x; mmrotate 0.x used (0, pi/2] under the same name.
Quadrilaterals ("quad")
    four corners ``(x, y)``, clockwise on the screen. Those made here start at the corner that lies at
    ``(-w/2, -h/2)`` in the box's own frame.

Functions take and return ``float64`` arrays with any number of leading rows, empty ones included.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

AngleVersion = Literal["le90", "le135", "oc"]
FlipDirection = Literal["horizontal", "vertical", "diagonal"]
Boxes = NDArray[np.float64]

_START = {"le90": -np.pi / 2, "le135": -np.pi / 4, "oc": -np.pi / 2}
_CORNERS = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


def normalise(rboxes: ArrayLike, version: AngleVersion = "le90") -> Boxes:
    """Rewrite boxes ``(N, 5)`` in the ranges of ``version`` without moving a corner."""
    cx, cy, w, h, theta = np.array(rboxes, dtype=np.float64).reshape(-1, 5).T
    start = _START[version]
    if version == "oc":
        swap = _wrap(theta, start, np.pi) >= start + np.pi / 2
        period = np.pi / 2
    else:
        swap = h > w
        theta = np.where(swap, theta + np.pi / 2, theta)
        period = np.pi
    w, h = np.where(swap, h, w), np.where(swap, w, h)
    return np.stack([cx, cy, w, h, _wrap(theta, start, period)], axis=1)


def rbox_to_quad(rboxes: ArrayLike) -> Boxes:
    """Return the corners ``(N, 4, 2)`` of boxes ``(N, 5)``."""
    boxes = np.asarray(rboxes, dtype=np.float64).reshape(-1, 5)
    local = _CORNERS * boxes[:, None, 2:4]
    cos, sin = np.cos(boxes[:, 4:5]), np.sin(boxes[:, 4:5])
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return np.stack([x, y], axis=-1) + boxes[:, None, :2]


def quad_to_rbox(quads: ArrayLike, version: AngleVersion = "le90") -> Boxes:
    """Return the smallest boxes ``(N, 5)`` around corners ``(N, 4, 2)`` or ``(N, 8)``.

    The corners may be in any order. Accurate to about 1e-4 pixels: OpenCV's rectangle is single
    precision, and is fitted about each quad's own centre for that reason.
    """
    points = np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2)
    centres = points.mean(axis=1)
    boxes = np.empty((len(points), 5))
    for row, local in enumerate((points - centres[:, None]).astype(np.float32)):
        (cx, cy), (w, h), degrees = cv2.minAreaRect(local)
        boxes[row] = cx, cy, w, h, np.deg2rad(degrees)
    boxes[:, :2] += centres
    return normalise(boxes, version)


def rbox_to_hbox(rboxes: ArrayLike) -> Boxes:
    """Return the upright rectangles ``(N, 4)``, ``x1 y1 x2 y2``, around boxes ``(N, 5)``."""
    quads = rbox_to_quad(rboxes)
    return np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)


def shift(rboxes: ArrayLike, dx: float, dy: float) -> Boxes:
    """Move boxes ``(N, 5)``: from the pixels of a window at ``(dx, dy)`` to those of its scene."""
    boxes = np.array(rboxes, dtype=np.float64).reshape(-1, 5)
    boxes[:, :2] += dx, dy
    return boxes


def flip(
    rboxes: ArrayLike,
    height: float,
    width: float,
    direction: FlipDirection,
    version: AngleVersion = "le90",
) -> Boxes:
    """Mirror boxes ``(N, 5)`` together with their image; ``diagonal`` mirrors both axes."""
    boxes = np.array(rboxes, dtype=np.float64).reshape(-1, 5)
    if direction != "vertical":
        boxes[:, 0] = width - 1 - boxes[:, 0]
    if direction != "horizontal":
        boxes[:, 1] = height - 1 - boxes[:, 1]
    if direction != "diagonal":
        boxes[:, 4] = -boxes[:, 4]
    return normalise(boxes, version)


def rotate(rboxes: ArrayLike, height: int, width: int, angle: float, version: AngleVersion = "le90") -> Boxes:
    """Turn boxes ``(N, 5)`` with their image by ``angle`` radians, clockwise, about its centre."""
    boxes = np.array(rboxes, dtype=np.float64).reshape(-1, 5)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(angle), np.sin(angle)
    boxes[:, :2] = (boxes[:, :2] - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre
    boxes[:, 4] += angle
    return normalise(boxes, version)


def _wrap(theta: Boxes, start: float, period: float) -> Boxes:
    """Bring angles to ``[start, start + period)``; those inside already are left as they are."""
    wrapped = (theta - start) % period + start
    wrapped = np.where(wrapped >= start + period, start, wrapped)  # rounding can reach the open end
    return np.where((theta >= start) & (theta < start + period), theta, wrapped)
