"""Calls of ``mmcv.ops`` whose results are compared: by a compiled mmcv (goldens) and by ours.

Inputs come from a numpy generator, so that they need not be stored, and lie on :data:`device`.
"""

import numpy as np
import torch
from mmcv import ops

device = "cpu"


def _tensor(array, dtype=torch.float32):
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)


def rotated_boxes(count, extent, seed, low=4.0, high=60.0):
    rng = np.random.default_rng(seed)
    centre, size = (
        rng.uniform(0, extent, (count, 2)),
        np.exp(rng.uniform(np.log(low), np.log(high), (count, 2))),
    )
    return _tensor(np.concatenate([centre, size, rng.uniform(-np.pi, np.pi, (count, 1))], 1))


def degenerate_boxes():
    square = [50, 50, 20, 20, 0]
    return _tensor(
        [
            square,
            [50, 50, 20, 20, np.pi / 2],
            [50, 50, 10, 10, 0.3],
            [70, 50, 20, 20, 0],
            [60, 60, 20, 20, 0],
            [50, 50, 0, 20, 0],
            [50, 50, 0, 0, 0],
            [50, 50, 200, 0.5, 0.7],
            [9000, 9000, 20, 20, 0],
            [50, 50, 40, 10, 0.2],
            [50, 50, 10, 40, 0.2 + np.pi / 2],
        ]
    )


def corners(boxes):
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    points = []
    for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        dx, dy = sx * boxes[:, 2] / 2, sy * boxes[:, 3] / 2
        points += [boxes[:, 0] + dx * cos - dy * sin, boxes[:, 1] + dx * sin + dy * cos]
    return torch.stack(points, 1)


def upright_boxes(count, extent, seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, extent, (count, 2))
    return _tensor(np.concatenate([corner, corner + rng.uniform(2, 40, (count, 2))], 1))


def scores(count, seed):
    return _tensor(np.random.default_rng(seed + 1000).permutation(count) / count + 1 / count)


def normal(*shape, seed=0):
    return _tensor(np.random.default_rng(seed).normal(size=shape))


def _with_gradients(function, *leaves):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    out = function(*leaves)
    weight = normal(*out.shape, seed=99)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)]


def _rois(count, rotated, extent=64.0):
    rng = np.random.default_rng(7)
    image = rng.integers(0, 2, (count, 1))
    centre, size = rng.uniform(-5, extent + 5, (count, 2)), rng.uniform(1, 40, (count, 2))
    if rotated:
        return _tensor(np.concatenate([image, centre, size, rng.uniform(-3, 3, (count, 1))], 1))
    return _tensor(np.concatenate([image, centre - size / 2, centre + size / 2], 1))


def overlap_cases():
    """Name -> function that returns a list of overlap tensors."""
    a, b, odd = rotated_boxes(60, 120, 1), rotated_boxes(50, 120, 2), degenerate_boxes()
    slivers = rotated_boxes(40, 60, 3, low=0.2, high=80)
    return {
        "iou_rotated": lambda: [ops.box_iou_rotated(a, b), ops.box_iou_rotated(a, b, mode="iof")],
        "iou_rotated_aligned": lambda: [ops.box_iou_rotated(a[:50], b, aligned=True)],
        "iou_rotated_ccw": lambda: [ops.box_iou_rotated(a, b, clockwise=False)],
        "iou_rotated_degenerate": lambda: [ops.box_iou_rotated(odd, odd)],
        "iou_rotated_slivers": lambda: [ops.box_iou_rotated(slivers, slivers)],
        "iou_rotated_empty": lambda: [ops.box_iou_rotated(a[:0], b), ops.box_iou_rotated(a, b[:0])],
        "iou_quadri": lambda: [ops.box_iou_quadri(corners(a), corners(b))],
        "bbox_overlaps": lambda: [
            ops.bbox_overlaps(upright_boxes(20, 60, 4), upright_boxes(15, 60, 5), offset=offset)
            for offset in (0, 1)
        ],
    }


def kept_cases():
    """Name -> function that returns a list of index tensors."""
    crowd, wide, odd = rotated_boxes(500, 200, 10), rotated_boxes(500, 1000, 11), degenerate_boxes()
    upright = upright_boxes(300, 150, 12)
    labels = _tensor(np.arange(500) % 4, torch.long)
    dets = torch.cat([upright, scores(300, 12)[:, None]], 1)
    rotated = dict(type="nms_rotated", iou_threshold=0.2)
    return {
        "nms_rotated": lambda: [
            ops.nms_rotated(boxes, scores(500, 1), threshold)[1]
            for boxes in (crowd, wide)
            for threshold in (0.1, 0.3, 0.7)
        ],
        "nms_rotated_degenerate": lambda: [ops.nms_rotated(odd, scores(len(odd), 2), 0.3)[1]],
        "nms_rotated_batched": lambda: [ops.batched_nms(crowd, scores(500, 3), labels, rotated)[1]],
        "nms_quadri": lambda: [ops.nms_quadri(corners(crowd), scores(500, 4), 0.2)[1]],
        "nms": lambda: [ops.nms(upright, scores(300, 5), 0.3, offset=offset)[1] for offset in (0, 1)],
        "soft_nms": lambda: [
            ops.soft_nms(upright, scores(300, 6), 0.3, 0.5, 0.05, method)[1]
            for method in ("naive", "linear", "gaussian")
        ],
        "nms_match": lambda: ops.nms_match(dets, 0.3),
    }


def feature_cases():
    """Name -> function that returns outputs and gradients."""
    maps = normal(2, 4, 16, 16, seed=20)
    cases = {}
    for ratio in (0, 2):
        for aligned in (True, False):
            for clockwise in (True, False):
                layer = ops.RoIAlignRotated((5, 4), 0.25, ratio, aligned, clockwise)
                name = f"roi_align_rotated_{ratio}_{aligned}_{clockwise}"
                cases[name] = lambda layer=layer: _with_gradients(lambda x: layer(x, _rois(20, True)), maps)
            for mode in ("avg", "max"):
                layer = ops.RoIAlign((5, 4), 0.25, ratio, mode, aligned)
                name = f"roi_align_{ratio}_{mode}_{aligned}"
                cases[name] = lambda layer=layer: _with_gradients(lambda x: layer(x, _rois(20, False)), maps)
    boxes = rotated_boxes(2 * 16 * 16, 128, 21).view(2, 16, 16, 5)
    for points in (1, 5):
        cases[f"rotated_feature_align_{points}"] = lambda points=points: _with_gradients(
            lambda x: ops.rotated_feature_align(x, boxes, 1 / 8, points), maps
        )
    rng = np.random.default_rng(22)
    turned = np.stack([rng.permutation(36) + 1 for _ in range(8)], 1).reshape(4, 3, 3, 8)
    indices = _tensor(turned, torch.int)
    cases["active_rotated_filter"] = lambda: _with_gradients(
        lambda x: ops.active_rotated_filter(x, indices), normal(2, 3, 4, 3, 3, seed=23)
    )
    weight, offset = normal(6, 2, 3, 3, seed=24), normal(2, 36, 8, 8, seed=25)
    cases["deform_conv"] = lambda: _with_gradients(
        lambda x, o, w: ops.deform_conv2d(x, o, w, 2, 1, 1, 2, 2), maps, offset, weight
    )
    mask, bias = normal(2, 18, 8, 8, seed=26).sigmoid(), normal(6, seed=27)
    cases["modulated_deform_conv"] = lambda: _with_gradients(
        lambda x, o, m, w, b: ops.modulated_deform_conv2d(x, o, m, w, b, 2, 1, 1, 2, 2),
        maps, offset, mask, weight, bias,
    )  # fmt: skip
    return cases


def all_cases():
    return overlap_cases() | kept_cases() | feature_cases()
