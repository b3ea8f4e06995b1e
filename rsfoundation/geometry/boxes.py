"""Box, angle and pixel conventions, stated once, and the conversions between them.

**Pixels**: x runs right, y runs down, and a pixel's *centre* is at integer coordinates: an image of width
``W`` reaches from -0.5 to ``W - 0.5``. Mirroring maps x to ``W - 1 - x``, and an image turns about
``((W - 1) / 2, (H - 1) / 2)``.

**Oriented boxes** ("rbox"): ``(cx, cy, w, h, theta)``; theta in radians, positive clockwise on the screen:
the side of length ``w`` points along ``(cos theta, sin theta)``. Objects have no heading: theta and
theta + pi are the same box, and so are ``(w, h, theta)`` and ``(h, w, theta + pi/2)``. A *version* picks one:

| version | theta           | sides  |
| ------- | --------------- | ------ |
| le90    | [-pi/2, pi/2)   | w >= h |
| le135   | [-pi/4, 3 pi/4) | w >= h |
| oc      | [-pi/2, 0)      | any    |

``oc`` is that of mmrotate 1.x; mmrotate 0.x used (0, pi/2] under the same name.

**Quadrilaterals** ("quad"): four corners ``(x, y)``, clockwise on the screen. Those made here start at the
corner at ``(-w/2, -h/2)`` in the box's own frame.

Functions take and return ``float64`` arrays with any number of rows, empty ones included; :func:`rescale`
works on tensors, where models need it.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

_RECTANGLE = 0.009  # pixels; corners that a turned rectangle meets within it are one
Mask = NDArray[np.bool_]


def is_crossed(quads: ArrayLike) -> Mask:
    """Return which quads ``(N,)`` are bow ties: two opposite sides run through each other."""
    corners = _corners(quads)
    x, y = np.ascontiguousarray(corners.transpose(2, 1, 0))
    dx, dy = np.roll(x, -1, axis=0) - x, np.roll(y, -1, axis=0) - y
    left = dx * np.roll(dy, -1, axis=0) > dy * np.roll(dx, -1, axis=0)  # which way each corner turns
    odd = left.any(axis=0) & ~left.all(axis=0)
    p = corners[odd]
    crossed = np.zeros(len(corners), dtype=np.bool_)
    crossed[odd] = _cuts(p[:, 0], p[:, 1], p[:, 2], p[:, 3]) | _cuts(p[:, 1], p[:, 2], p[:, 3], p[:, 0])
    return crossed


def in_order(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the corners of quads ``(N, 8)``, crossed or not, clockwise about their middle."""
    corners = _corners(quads)
    away = corners - corners.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(away[..., 1], away[..., 0]), axis=1)
    return np.take_along_axis(corners, order[..., None], axis=1).reshape(-1, 8)


def short_sides(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the shorter side ``(N,)`` of the smallest rectangle around each quad."""
    corners = _corners(quads)
    local = (corners - corners.mean(axis=1, keepdims=True)).astype(np.float32)
    return np.array([min(cv2.minAreaRect(points)[1]) for points in local], dtype=np.float64)


def is_outside(quads: ArrayLike, sizes: ArrayLike) -> Mask:
    """Return which quads ``(N,)`` are wholly beyond their image.

    Args:
        quads: Corners.
        sizes: Width and height ``(N, 2)`` or ``(2,)`` of the images; infinite where it is not known.
    """
    x, y = np.ascontiguousarray(_corners(quads).transpose(2, 1, 0))
    width, height = np.asarray(sizes, dtype=np.float64).reshape(-1, 2).T
    beyond_x = (x.max(axis=0) < 0) | (x.min(axis=0) > width)
    return np.asarray(beyond_x | (y.max(axis=0) < 0) | (y.min(axis=0) > height), dtype=np.bool_)


def _corners(quads: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2)


def _cuts(a: NDArray, b: NDArray, c: NDArray, d: NDArray) -> Mask:
    """Return where the inner part of segment ab meets that of cd."""
    return (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)


def _turn(a: NDArray, b: NDArray, c: NDArray) -> NDArray[np.float64]:
    """Return twice the signed area of triangles abc."""
    u, v = b - a, c - a
    return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


AngleVersion = Literal["le90", "le135", "oc"]
FlipDirection = Literal["horizontal", "vertical", "diagonal"]
Boxes = NDArray[np.float64]

_START = {"le90": -np.pi / 2, "le135": -np.pi / 4, "oc": -np.pi / 2}
_CORNERS = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])


def normalise(rboxes: ArrayLike, version: AngleVersion = "le90") -> Boxes:
    """Rewrite boxes ``(N, 5)`` in the ranges of ``version`` without moving a corner.

    Args:
        rboxes: The boxes.
        version: The ranges of theta, and which side is w; see above.
    """
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

    Args:
        quads: The corners.
        version: Of the result.
    """
    points = _corners(quads)
    centres = points.mean(axis=1)
    boxes = np.empty((len(points), 5))
    for row, local in enumerate((points - centres[:, None]).astype(np.float32)):
        (cx, cy), (w, h), degrees = cv2.minAreaRect(local)
        boxes[row] = cx, cy, w, h, np.deg2rad(degrees)
    boxes[:, :2] += centres
    return normalise(boxes, version)


def smallest_rectangle(points: NDArray[np.floating]) -> tuple[float, ...]:
    """Return the corners (8 numbers) of the smallest rectangle around points ``(P, 2)``."""
    middle = points.mean(axis=0)
    (cx, cy), (width, height), degrees = cv2.minAreaRect((points - middle).astype(np.float32))
    box = (cx + middle[0], cy + middle[1], width, height, math.radians(degrees))
    return tuple(rbox_to_quad([box]).reshape(-1).tolist())


def as_turned_rectangle(quad: Sequence[float]) -> tuple[float, float, float, float, float] | None:
    """Return ``cx cy w h theta`` of corners that are a rectangle; theta in radians, clockwise.

    The first corner is ``(-w / 2, -h / 2)`` of the rectangle, so that nothing is lost. ``None`` for other
    quadrilaterals, and for those whose corners are counter-clockwise.
    """
    corners = np.asarray(quad, dtype=np.float64).reshape(4, 2)
    along = (corners[1] - corners[0] + corners[2] - corners[3]) / 2
    across = (corners[2] - corners[1] + corners[3] - corners[0]) / 2
    # corners may be rounded: both sides have a say in the angle
    theta = math.atan2(along[1] - across[0], along[0] + across[1])
    cx, cy = corners.mean(axis=0).tolist()
    box = (cx, cy, math.hypot(*along), math.hypot(*across), theta)
    if np.abs(rbox_to_quad([box]).reshape(4, 2) - corners).max() > _RECTANGLE:
        return None
    return box


def rbox_to_hbox(rboxes: ArrayLike) -> Boxes:
    """Return the upright rectangles ``(N, 4)``, ``x1 y1 x2 y2``, around boxes ``(N, 5)``."""
    quads = rbox_to_quad(rboxes)
    return np.concatenate([quads.min(axis=1), quads.max(axis=1)], axis=1)


def shift(rboxes: ArrayLike, dx: float, dy: float) -> Boxes:
    """Move boxes ``(N, 5)``: from the pixels of a window at ``(dx, dy)`` to those of its scene.

    Args:
        rboxes: In pixels of the window.
        dx: Column of the window in its scene.
        dy: Row of the window in its scene.
    """
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
    """Mirror boxes ``(N, 5)`` together with their image; ``diagonal`` mirrors both axes.

    Args:
        rboxes: The boxes.
        height: Of the image.
        width: Of the image.
        direction: Of the flip.
        version: Of the result.
    """
    boxes = np.array(rboxes, dtype=np.float64).reshape(-1, 5)
    if direction != "vertical":
        boxes[:, 0] = width - 1 - boxes[:, 0]
    if direction != "horizontal":
        boxes[:, 1] = height - 1 - boxes[:, 1]
    if direction != "diagonal":
        boxes[:, 4] = -boxes[:, 4]
    return normalise(boxes, version)


def rotate(rboxes: ArrayLike, height: int, width: int, angle: float, version: AngleVersion = "le90") -> Boxes:
    """Turn boxes ``(N, 5)`` with their image by ``angle`` radians, clockwise, about its centre.

    Args:
        rboxes: The boxes.
        height: Of the image.
        width: Of the image.
        angle: In radians, clockwise.
        version: Of the result.
    """
    boxes = np.array(rboxes, dtype=np.float64).reshape(-1, 5)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    cos, sin = np.cos(angle), np.sin(angle)
    boxes[:, :2] = (boxes[:, :2] - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre
    boxes[:, 4] += angle
    return normalise(boxes, version)


def rescale(boxes: torch.Tensor, scale_x: float, scale_y: float) -> torch.Tensor:
    """Scale boxes ``(..., 5)`` with their image, whose sides are scaled by different factors.

    A rectangle becomes a parallelogram. The smallest rectangle around that has a side along its longer one.

    Args:
        boxes: In pixels of the image before.
        scale_x: Factor of the width.
        scale_y: Factor of the height.

    Returns:
        The smallest boxes around the moved corners; the side that was ``w`` stays ``w``.
    """
    cx, cy, w, h, theta = boxes.unbind(dim=-1)
    cos, sin = theta.cos(), theta.sin()
    w_x, w_y = scale_x * w * cos, scale_y * w * sin  # the moved sides
    h_x, h_y = -scale_x * h * sin, scale_y * h * cos
    w_length, h_length = torch.hypot(w_x, w_y), torch.hypot(h_x, h_y)
    along_w = w_length >= h_length
    longer = torch.where(along_w, w_length, h_length)
    divisor = longer.clamp(min=torch.finfo(boxes.dtype).tiny)
    length = longer + (w_x * h_x + w_y * h_y).abs() / divisor
    breadth = (w_x * h_y - w_y * h_x).abs() / divisor
    angle = torch.where(along_w, torch.atan2(w_y, w_x), torch.atan2(h_y, h_x) - torch.pi / 2)
    sides = torch.where(along_w, length, breadth), torch.where(along_w, breadth, length)
    return torch.stack([cx * scale_x, cy * scale_y, *sides, angle], dim=-1)


def rescale_any(original: Callable[[Any, tuple[float, float]], None]) -> Callable[..., None]:
    """Return ``RotatedBoxes.rescale_`` of mmrotate, right where the factors differ.

    Args:
        original: mmrotate's method, which is kept for equal factors.
    """

    def rescale_(self: Any, scale_factor: tuple[float, float]) -> None:
        """Scale boxes in place; the result is the smallest rectangle around the moved corners."""
        scale_x, scale_y = scale_factor
        if scale_x == scale_y:
            original(self, scale_factor)
        else:
            self.tensor = rescale(self.tensor, scale_x, scale_y)

    return rescale_


def _wrap(theta: Boxes, start: float, period: float) -> Boxes:
    """Bring angles to ``[start, start + period)``; those inside already are left as they are."""
    wrapped = (theta - start) % period + start
    wrapped = np.where(wrapped >= start + period, start, wrapped)  # rounding can reach the open end
    return np.where((theta >= start) & (theta < start + period), theta, wrapped)


def suppress(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, class_agnostic: bool = False
) -> np.ndarray:
    """Return which detections stay under rotated NMS per class, ordered by class, then best score first.

    Of equal scores the earlier detection is the better one. The IoU is compared in float32, as the NMS of
    mmcv does.

    Args:
        boxes: ``(n, 5)`` in pixels of one image.
        scores: ``(n,)``.
        labels: ``(n,)``.
        iou: Overlap from which the worse of two goes.
        class_agnostic: Compare detections of different classes too.
    """
    from rsfoundation.ops import nms_rotated  # imports torchvision, which preparing data does not need

    order = np.argsort(-scores, kind="stable")
    ranks = torch.arange(len(order), 0, -1, dtype=torch.float64)
    table = torch.from_numpy(boxes[order].astype(np.float32))
    groups = None if class_agnostic else torch.from_numpy(labels[order].astype(np.int64))
    kept = nms_rotated(table, ranks, iou, groups)
    kept = order[kept.sort().values.numpy()]
    return kept[np.argsort(labels[kept], kind="stable")]
