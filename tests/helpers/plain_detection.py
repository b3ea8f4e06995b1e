"""What detectors compute, worked out again in double precision from the papers' formulas.

Nothing here calls mmrotate, mmdet or the package; IoU is shapely's.
"""

import numpy as np
from shapely.geometry import Polygon


def corners(box):
    """Corners ``(4, 2)`` of one box, clockwise on the screen: sides along (cos, sin) and (-sin, cos)."""
    x, y, w, h, angle = (float(value) for value in box)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([np.array([x, y]) + a * w / 2 * along + b * h / 2 * across for a, b in signs])


def same_rectangle(first, second, tolerance):
    """Whether two sets of four corners are one rectangle, whatever corner comes first."""
    gaps = np.linalg.norm(np.asarray(first)[:, None] - np.asarray(second)[None], axis=2)
    return gaps.min(axis=0).max() < tolerance and gaps.min(axis=1).max() < tolerance


def upright(box):
    """Smallest upright rectangle around a box: x1, y1, x2, y2."""
    points = corners(box)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def nearest_turn(angle, period):
    """The angle of least size that differs by a multiple of ``period``."""
    return angle - period * np.round(angle / period)


def encode_rotated(source, target, stds, swap, project, divisor=1.0):
    """Deltas from one rotated box to another (Xie et al. 2021, Ding et al. 2019).

    ``target`` comes in the range that the coder states. Under ``swap`` its sides may change names, where that
    leaves less to turn.
    """
    px, py, pw, ph, pa = source
    gx, gy, gw, gh, ga = target
    turn = nearest_turn(ga - pa, np.pi)
    if swap:
        other = nearest_turn(ga + np.pi / 2 - pa, np.pi)
        if abs(other) < abs(turn):
            gw, gh, turn = gh, gw, other
    offset = complex(gx - px, gy - py)
    if project:
        offset *= np.exp(-1j * pa)
    deltas = [offset.real / pw, offset.imag / ph, np.log(gw / pw), np.log(gh / ph), turn / divisor]
    return np.array(deltas) / np.asarray(stds)


def decode_rotated(source, deltas, stds, project, divisor=1.0):
    """The box that deltas lead to, in no particular range of angles."""
    px, py, pw, ph, pa = source
    dx, dy, dw, dh, dt = np.asarray(deltas) * np.asarray(stds)
    offset = complex(dx * pw, dy * ph)
    if project:
        offset *= np.exp(1j * pa)
    return np.array([px + offset.real, py + offset.imag, pw * np.exp(dw), ph * np.exp(dh), pa + dt * divisor])


def iou(first, second):
    """IoU of two sets of corners."""
    a, b = Polygon(first), Polygon(second)
    shared = a.intersection(b).area
    return shared / (a.area + b.area - shared)


def overlaps(objects, anchors, as_upright=False):
    """IoU ``(objects, anchors)``; by the upright rectangles of the objects where asked."""

    def shape(box):
        if not as_upright:
            return corners(box)
        x1, y1, x2, y2 = upright(box) if len(box) == 5 else box
        return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]

    return np.array([[iou(shape(a), shape(b)) for b in anchors] for a in objects])


def assign(table, positive, negative, minimum, low_quality):
    """Max-IoU assignment: object + 1 of each anchor, 0 for background, -1 for neither."""
    result = np.full(table.shape[1], -1)
    best, best_object = table.max(axis=0), table.argmax(axis=0)
    result[best < negative] = 0
    result[best >= positive] = best_object[best >= positive] + 1
    if low_quality:
        for index, row in enumerate(table):
            if row.max() >= minimum:
                result[row == row.max()] = index + 1
    return result


def grid(sizes, strides, shapes, offset=0.0):
    """Anchors ``(cx, cy, w, h)`` of every level, row by row; ``shapes(stride)`` lists widths and heights."""
    levels = []
    for (height, width), stride in zip(sizes, strides, strict=True):
        level = [
            ((x + offset) * stride, (y + offset) * stride, w, h)
            for y in range(height)
            for x in range(width)
            for w, h in shapes(stride)
        ]
        levels.append(np.array(level))
    return levels


def focal(logits, labels, gamma=2.0, alpha=0.25):
    """Sum of the focal loss (Lin et al. 2017); the label of background is the number of classes."""
    logits = np.asarray(logits, dtype=np.float64)
    p = 1 / (1 + np.exp(-logits))
    hot = np.arange(logits.shape[1])[None] == np.asarray(labels)[:, None]
    hit, miss = -alpha * (1 - p) ** gamma * np.log(p), -(1 - alpha) * p**gamma * np.log(1 - p)
    return np.where(hot, hit, miss).sum()


def smooth_l1(difference, beta):
    """Sum of the smooth L1 loss (Girshick 2015)."""
    size = np.abs(np.asarray(difference, dtype=np.float64))
    return np.where(size < beta, size**2 / (2 * beta), size - beta / 2).sum()


def softmax_entropy(logits, labels):
    """Sum of the cross entropy of a softmax."""
    logits = np.asarray(logits, dtype=np.float64)
    lowered = logits - logits.max(axis=1, keepdims=True)
    log_p = lowered - np.log(np.exp(lowered).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].sum()
