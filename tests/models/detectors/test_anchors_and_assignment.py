"""Anchors of every head and what they are assigned, against plain loops in double precision."""

import math

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmrotate.registry import TASK_UTILS
from mmrotate.structures.bbox import RotatedBoxes
from oriented_heads import BASE
from plain_detection import assign, grid, overlaps

SIZES = [(4, 5), (2, 3), (1, 2)]


def model_of(head):
    return Config.fromfile(BASE / "heads" / f"{head}.py").model


def build(cfg):
    return TASK_UTILS.build({**cfg, "_scope_": "mmrotate"})


def test_anchors_of_the_proposal_network():
    """Eight strides wide, sides as 1 to 2, 1 to 1, 2 to 1; upright; no half-pixel offset."""
    generator = build({**model_of("oriented_rcnn").rpn_head.anchor_generator, "strides": [4, 8, 16]})
    expected = grid(
        SIZES, [4, 8, 16], lambda s: [(8 * s / math.sqrt(r), 8 * s * math.sqrt(r)) for r in (0.5, 1, 2)]
    )
    for found, level in zip(generator.grid_priors(SIZES, device="cpu"), expected, strict=True):
        assert isinstance(found, HorizontalBoxes)
        corners = np.concatenate([level[:, :2] - level[:, 2:] / 2, level[:, :2] + level[:, 2:] / 2], axis=1)
        np.testing.assert_allclose(found.tensor.double().numpy(), corners, atol=1e-4)


@pytest.mark.parametrize("head", ["rotated_retinanet", "r3det"])
def test_nine_anchors_at_angle_0(head):
    """Three scales per octave from four strides on, times three ratios of sides."""
    model = model_of(head)
    cfg = (
        model.bbox_head.anchor_generator
        if head == "rotated_retinanet"
        else model.bbox_head_init.anchor_generator
    )
    expected = grid(
        SIZES,
        [8, 16, 32],
        lambda s: [
            (4 * s * 2 ** (k / 3) / math.sqrt(r), 4 * s * 2 ** (k / 3) * math.sqrt(r))
            for r in (1, 0.5, 2)
            for k in range(3)
        ],
    )
    found = build({**cfg, "strides": [8, 16, 32]}).grid_priors(SIZES, device="cpu")
    for boxes, level in zip(found, expected, strict=True):
        assert isinstance(boxes, RotatedBoxes)
        np.testing.assert_allclose(boxes.tensor[:, :4].double().numpy(), level, atol=1e-4)
        assert boxes.tensor[:, 4].eq(0).all()


def test_one_square_anchor_at_angle_0():
    cfg = model_of("s2anet").bbox_head_init.anchor_generator
    found = build({**cfg, "strides": [8, 16, 32]}).grid_priors(SIZES, device="cpu")
    for boxes, level in zip(found, grid(SIZES, [8, 16, 32], lambda s: [(4 * s, 4 * s)]), strict=True):
        wanted = np.concatenate([level, np.zeros((len(level), 1))], axis=1)
        np.testing.assert_allclose(boxes.tensor.double().numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("head", "offset"), [("rotated_rtmdet", 0.0), ("rotated_fcos", 0.5)])
def test_points(head, offset):
    cfg = model_of(head).bbox_head
    generator = build(
        cfg.get("anchor_generator", dict(type="mmdet.MlvlPointGenerator", strides=cfg.get("strides")))
    )
    strides = [stride[0] for stride in generator.strides]
    sizes = [(3, 2)] * len(strides)
    for found, level in zip(
        generator.grid_priors(sizes, device="cpu"),
        grid(sizes, strides, lambda s: [(0, 0)], offset),
        strict=True,
    ):
        np.testing.assert_allclose(found.numpy(), level[:, :2])


def scene(seed):
    """Objects and anchors that overlap a little, much or not at all; one object is far from every anchor."""
    rng = np.random.default_rng(seed)
    objects = np.stack(
        [*rng.uniform(10, 90, (2, 6)), *rng.uniform(8, 40, (2, 6)), rng.uniform(-1.5, 1.5, 6)], 1
    )
    objects[-1, :2] = 1000
    near = objects[rng.integers(0, 5, 60)] + rng.normal(0, [3, 3, 3, 3, 0.2], (60, 5))
    near[:, 2:4] = near[:, 2:4].clip(3)
    return objects, np.concatenate([near, near[:20] + np.array([200, 0, 0, 0, 0])])


ASSIGNERS = {
    "first stage of S2ANet, R3Det, RetinaNet": (("s2anet", "init"), (0.5, 0.4, 1e-6, True), False),
    "second stage of R3Det": (("r3det", "refine", 0), (0.6, 0.5, 1e-6, True), False),
    "third stage of R3Det": (("r3det", "refine", 1), (0.7, 0.6, 1e-6, True), False),
    "proposals": (("oriented_rcnn", "rpn"), (0.7, 0.3, 0.3, True), True),
    "regions": (("oriented_rcnn", "rcnn"), (0.5, 0.5, 0.5, False), False),
    "upright regions of RoI Transformer": (("roi_transformer", "rcnn", 0), (0.5, 0.5, 0.5, False), True),
}


@pytest.mark.parametrize("name", ASSIGNERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_assignment(name, seed):
    (head, *path), rule, as_upright = ASSIGNERS[name]
    node = model_of(head).train_cfg
    for key in path:
        node = node[key]
    objects, anchors = scene(seed)
    if as_upright:
        anchors = np.concatenate(
            [anchors[:, :2] - anchors[:, 2:4] / 2, anchors[:, :2] + anchors[:, 2:4] / 2], 1
        )
    kind = HorizontalBoxes if as_upright else RotatedBoxes
    found = build(node.assigner).assign(
        InstanceData(priors=kind(torch.tensor(anchors, dtype=torch.float32))),
        InstanceData(
            bboxes=RotatedBoxes(torch.tensor(objects, dtype=torch.float32)), labels=torch.arange(len(objects))
        ),
    )
    table = overlaps(objects, anchors, as_upright)
    table[:, table.max(axis=0) == 0] = 0
    expected = assign(table, *rule)
    assert not (expected == len(objects)).any()  # what is outside owns nothing, least of all everything
    np.testing.assert_array_equal(found.gt_inds.numpy(), expected)
    assert {-1, 0} & set(expected) and (expected > 0).any()
    np.testing.assert_allclose(found.max_overlaps.numpy(), table.max(axis=0), atol=1e-4)
