"""Run a detector that `rsf export` wrote, without this package: numpy, Pillow and onnxruntime are enough.

python onnx_detector.py detector.onnx tile.png
"""

import json
import sys

import numpy as np


def corners(boxes):
    """Return the corners (n, 4, 2) of boxes (n, 5): cx, cy, w, h, theta (radians, clockwise)."""
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack([cos, sin], 1) * boxes[:, 2:3] / 2
    across = np.stack([-sin, cos], 1) * boxes[:, 3:4] / 2
    centre = boxes[:, :2]
    places = [
        centre - along - across,
        centre + along - across,
        centre + along + across,
        centre - along + across,
    ]
    return np.stack(places, 1)


def cross(a, b):
    """Return the z part of the cross product of vectors (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def inside(points, quads):
    """Return which points (n, 4, 2) lie in the quadrilateral of the same row."""
    edges = np.roll(quads, -1, 1) - quads
    return (cross(edges[:, None], points[:, :, None] - quads[:, None]) >= -1e-9).all(2)


def overlaps(one, others):
    """Return the intersection over union of one rotated box (5,) with others (n, 5)."""
    a = np.repeat(corners(one[None]), len(others), 0)
    b = corners(others)
    from_a, from_b = (np.roll(quads, -1, 1) - quads for quads in (a, b))
    slope = cross(from_a[:, :, None], from_b[:, None])
    gap = b[:, None] - a[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = cross(gap, from_b[:, None]) / slope
        u = cross(gap, from_a[:, :, None]) / slope
        crossed = (abs(slope) > 1e-12) & (t >= 0) & (t <= 1) & (u >= 0) & (u <= 1)
        meeting = a[:, :, None] + from_a[:, :, None] * t[..., None]
    points = np.concatenate([a, b, meeting.reshape(len(b), 16, 2)], 1)
    used = np.concatenate([inside(a, b), inside(b, a), crossed.reshape(len(b), 16)], 1)
    count = used.sum(1)
    middle = np.where(used[..., None], points, 0).sum(1) / np.maximum(count, 1)[:, None]
    around = np.where(used[..., None], points - middle[:, None], 0)
    order = np.argsort(np.where(used, np.arctan2(around[..., 1], around[..., 0]), np.inf), 1)
    ring = np.take_along_axis(around, order[..., None], 1)
    # places without a point repeat the first one, which adds no area
    ring = np.where((np.arange(24) < count[:, None])[..., None], ring, ring[:, :1])
    common = abs(cross(ring, np.roll(ring, -1, 1)).sum(1)) / 2 * (count > 2)
    return common / np.maximum(one[2] * one[3] + others[:, 2] * others[:, 3] - common, 1e-12)


def suppress(boxes, scores, labels, settings):
    """Return the detections that rotated suppression leaves, best first."""
    able = scores > settings["score_threshold"]
    boxes, scores, labels = boxes[able].astype(float), scores[able], labels[able]
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order) and len(kept) < settings["max_per_image"]:
        best, order = order[0], order[1:]
        kept.append(best)
        reach = np.hypot(*boxes[best, 2:4]) / 2 + np.hypot(boxes[order, 2], boxes[order, 3]) / 2
        near = np.hypot(*(boxes[order, :2] - boxes[best, :2]).T) < reach
        near &= labels[order] == labels[best]
        gone = np.zeros(len(order), bool)
        if near.any():
            gone[near] = overlaps(boxes[best], boxes[order[near]]) >= settings["iou_threshold"]
        order = order[~gone]
    return boxes[kept], scores[kept], labels[kept]


def main(model, picture):
    """Print the detections of one picture; it is cut or filled with black to the size of the model."""
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    settings = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    height, width = session.get_inputs()[0].shape[2:]
    pixels = np.zeros((height, width, 3), np.float32)
    image = np.asarray(Image.open(picture).convert("RGB"))
    if image.shape[0] > height or image.shape[1] > width:
        print(f"the model takes {height} x {width} pixels: the rest is cut off", file=sys.stderr)
    image = image[:height, :width]
    pixels[: image.shape[0], : image.shape[1]] = image
    boxes, scores, labels = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[:3]
    if not settings["suppressed"]:
        boxes, scores, labels = suppress(boxes, scores, labels, settings)
    for box, score, label in zip(boxes, scores, labels):
        numbers = " ".join(f"{number:.2f}" for number in box)
        print(f"{settings['classes'][label]} {score:.3f} {numbers}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
