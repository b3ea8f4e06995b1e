"""Overlap of rotated boxes ``(cx, cy, w, h, theta)``, theta in radians and clockwise in image axes."""

import math
from typing import Literal

import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, blank_non_finite, check_last_dim
from rsfoundation.ops.kernels import MIN_AREA

_PAIRS_AT_ONCE = 1 << 21  # bounds the memory of the torch path to some 500 MB
_SLACK = 1 + 1e-9  # rounding may not part circles that touch


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, mode: Literal["iou", "iof"] = "iou", aligned: bool = False
) -> Tensor:
    """Return intersection over union, or over the area of the first box (``iof``).

    Computed in float64 and rounded to the type of ``boxes1``. Boxes of no area and boxes with NaN or infinity
    overlap nothing.

    Args:
        boxes1: ``(n, 5)``.
        boxes2: ``(m, 5)``; with ``aligned`` ``(n, 5)``.
        mode: ``iou`` or ``iof``.
        aligned: Compare boxes of equal index only.

    Returns:
        ``(n, m)``, or ``(n,)`` with ``aligned``.

    Raises:
        OperatorInputError: Wrong shapes, another mode.
    """
    check_last_dim("box_iou_rotated", boxes1, 5)
    check_last_dim("box_iou_rotated", boxes2, 5)
    if mode not in ("iou", "iof"):
        raise OperatorInputError(f"box_iou_rotated: mode is 'iou' or 'iof', found {mode!r}")
    if aligned and len(boxes1) != len(boxes2):
        raise OperatorInputError(f"box_iou_rotated: aligned, but {len(boxes1)} and {len(boxes2)} boxes")
    first, second = (blank_non_finite("box_iou_rotated", boxes.detach()) for boxes in (boxes1, boxes2))
    compute = _iou_numba if boxes1.device.type == "cpu" else _iou_torch
    return compute(first, second, mode == "iof", aligned)


def _iou_numba(boxes1: Tensor, boxes2: Tensor, foreground: bool, aligned: bool) -> Tensor:
    from rsfoundation.ops.kernels import rotated_boxes
    from rsfoundation.ops.kernels.threads import run_chunks

    a, b = (rotated_boxes.describe(boxes.double().numpy()) for boxes in (boxes1, boxes2))
    dtype = boxes1.dtype if boxes1.dtype in (torch.float32, torch.float64) else torch.float32
    if aligned:
        result = torch.zeros(len(a), dtype=dtype)
        run_chunks(rotated_boxes.iou_aligned, len(a), a, b, foreground, result.numpy(), grain=4096)
    else:
        result = torch.zeros(len(a), len(b), dtype=dtype)
        grain = math.ceil(65536 / max(len(b), 1))
        run_chunks(rotated_boxes.iou_rows, len(a), a, b, foreground, result.numpy(), grain=grain, pieces=4)
    return result.to(boxes1.dtype)


def _iou_torch(boxes1: Tensor, boxes2: Tensor, foreground: bool, aligned: bool) -> Tensor:
    a, b = boxes1.double(), boxes2.double()
    if aligned:
        return _pair_ratio(a, b, foreground).to(boxes1.dtype)
    result = boxes1.new_zeros(len(a), len(b))
    rows = max(1, _PAIRS_AT_ONCE // max(len(b), 1))
    for start in range(0, len(a), rows):
        mine, others = _near(a[start : start + rows], b).nonzero(as_tuple=True)
        for i, j in zip((mine + start).split(_PAIRS_AT_ONCE), others.split(_PAIRS_AT_ONCE), strict=True):
            result[i, j] = _pair_ratio(a[i], b[j], foreground).to(result.dtype)
    return result


def _near(a: Tensor, b: Tensor) -> Tensor:
    """Return which pairs ``(n, m)`` may overlap: the circles around them meet. Mostly few of all do."""
    reach = (torch.hypot(a[:, 2], a[:, 3])[:, None] + torch.hypot(b[:, 2], b[:, 3])) / 2
    dx, dy = a[:, 0, None] - b[:, 0], a[:, 1, None] - b[:, 1]
    return dx * dx + dy * dy <= reach * reach * _SLACK


def _pair_ratio(a: Tensor, b: Tensor, foreground: bool) -> Tensor:
    area_a, area_b = a[..., 2] * a[..., 3], b[..., 2] * b[..., 3]
    common = torch.minimum(rotated_overlap(a, b), torch.minimum(area_a, area_b))
    base = area_a if foreground else area_a + area_b - common
    solid = (area_a >= MIN_AREA) & (area_b >= MIN_AREA)
    return torch.where(solid, common / torch.where(solid, base, torch.ones_like(base)), 0.0)


def rotated_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the area common to boxes of equal index; differentiable.

    The contour integral of ``kernels.rotated_boxes``: in the frame of ``b``, the sum over the edges of
    ``a`` of the integral of ``y`` clamped to the height of ``b`` over ``x`` clamped to its width.

    Args:
        a: ``(..., 5)``.
        b: ``(..., 5)``, broadcast against ``a``.
    """
    dx, dy = a[..., 0] - b[..., 0], a[..., 1] - b[..., 1]
    cos_b, sin_b = b[..., 4].cos(), b[..., 4].sin()
    centre_x, centre_y = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    turn = a[..., 4] - b[..., 4]
    half_w, half_h = a[..., 2].abs() / 2, a[..., 3].abs() / 2
    ux, uy, vx, vy = half_w * turn.cos(), half_w * turn.sin(), -half_h * turn.sin(), half_h * turn.cos()
    x = torch.stack([-ux - vx, ux - vx, ux + vx, vx - ux], -1) + centre_x[..., None]
    y = torch.stack([-uy - vy, uy - vy, uy + vy, vy - uy], -1) + centre_y[..., None]
    width, height = (b[..., 2].abs() / 2)[..., None], (b[..., 3].abs() / 2)[..., None]
    return _edge_integrals(x, y, x.roll(-1, -1), y.roll(-1, -1), width, height).sum(-1).abs()


def _clamp(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, low), high)


def _edge_integrals(x0: Tensor, y0: Tensor, x1: Tensor, y1: Tensor, width: Tensor, height: Tensor) -> Tensor:
    xa, xb = _clamp(x0, -width, width), _clamp(x1, -width, width)
    run = x1 - x0
    inside = xa != xb
    slope = (y1 - y0) / torch.where(inside, run, torch.ones_like(run))
    low, high = torch.minimum(y0, y1), torch.maximum(y0, y1)
    ya, yb = _clamp(y0 + (xa - x0) * slope, low, high), _clamp(y0 + (xb - x0) * slope, low, high)
    low, high = torch.minimum(ya, yb), torch.maximum(ya, yb)
    lower, upper = _clamp(low, -height, height), _clamp(high, -height, height)
    below = (torch.minimum(high, -height) - low).clamp(min=0)
    above = (high - torch.maximum(low, height)).clamp(min=0)
    span = high - low
    slanted = span > 0
    total = (lower + upper) / 2 * (upper - lower) + height * (above - below)
    mean = torch.where(slanted, total / torch.where(slanted, span, torch.ones_like(span)), lower)
    return torch.where(inside, (xb - xa) * mean, 0.0)


_SLOTS = 9  # an overlap of two rectangles has at most 8 corners, and the first is repeated
_CROSSINGS = 8  # candidates from here on are edge crossings: zero where invalid
_SAME = 1e-6  # corners nearer than this, relative to the polygon, are one


def sort_vertices(vertices: Tensor, mask: Tensor) -> Tensor:
    """Return the indices of the valid corners by angle, the first once more, then padding.

    Coincident corners appear once: the area formula would otherwise run out of slots when two boxes
    share corners.

    Args:
        vertices: ``(b, n, m, 2)`` candidates, centred on the polygon.
        mask: ``(b, n, m)``, which are valid.

    Returns:
        ``(b, n, 9)`` int32; padding is the first invalid crossing, which is the origin.
    """
    angle = torch.atan2(vertices[..., 1], vertices[..., 0]).masked_fill(~mask, torch.inf)
    order = angle.argsort(dim=-1, stable=True)
    ranked = vertices.gather(2, order[..., None].expand_as(vertices))
    valid = mask.gather(2, order) & ~_repeats(ranked, mask)
    order = order.gather(2, (~valid).to(torch.uint8).argsort(dim=-1, stable=True))[..., :_SLOTS]
    count = valid.sum(-1, keepdim=True).clamp(max=_SLOTS - 1)
    slot = torch.arange(_SLOTS, device=mask.device).expand_as(order)
    padding = (~mask[..., _CROSSINGS:]).to(torch.uint8).argmax(-1, keepdim=True) + _CROSSINGS
    closed = torch.where(slot == count, order[..., :1], torch.where(slot < count, order, padding))
    return torch.where(count < 3, padding, closed).int()


def _repeats(ranked: Tensor, mask: Tensor) -> Tensor:
    """Return which corners coincide with the one before; the last is compared with the first as well."""
    scale = ranked.masked_fill(~mask.any(-1)[..., None, None], 0).abs().amax((-2, -1), keepdim=True)
    near = ((ranked - ranked.roll(1, 2)).abs() <= _SAME * scale).all(-1)
    near[..., 0] = False
    last = mask.sum(-1, keepdim=True) - 1
    closing = (ranked[..., :1, :] - ranked).abs().amax(-1) <= _SAME * scale[..., 0]
    slot = torch.arange(ranked.shape[2], device=mask.device)
    return near | (closing & (slot == last) & (last > 0))


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool
) -> None:
    """Fill ``ious``, flat. Columns after the fifth are ignored: mmrotate's evaluation leaves scores there."""
    ratios = box_iou_rotated(boxes1[:, :5], boxes2[:, :5], "iof" if mode_flag == 1 else "iou", aligned)
    ious.copy_(ratios.reshape(ious.shape))


def _mmcv_diff_iou_rotated_sort_vertices_forward(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Return the order of the corners; their number follows from ``mask``."""
    return sort_vertices(vertices, mask)
