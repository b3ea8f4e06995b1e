"""Losses, alone and through a whole head, against sums in double precision."""

import math

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from oriented_heads import BASE, SIDE, sample
from plain_detection import assign, encode_rotated, focal, grid, overlaps, smooth_l1, softmax_entropy

from rsfoundation.geometry.boxes import normalise


def model_of(head):
    init_default_scope("mmrotate")
    return Config.fromfile(BASE / "heads" / f"{head}.py").model


def test_focal():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (50, 15)), rng.integers(0, 16, 50)
    loss = MODELS.build(model_of("s2anet").bbox_head_init.loss_cls)
    found = loss(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels), avg_factor=7)
    assert found.item() == pytest.approx(focal(logits, labels) / 7, rel=1e-5)


@pytest.mark.parametrize(
    ("head", "path", "beta"),
    [
        ("oriented_rcnn", ("rpn_head",), 1 / 9),
        ("oriented_rcnn", ("roi_head", "bbox_head"), 1.0),
        ("s2anet", ("bbox_head_init",), 0.11),
        ("r3det", ("bbox_head_refine", 1), 0.11),
    ],
)
def test_smooth_l1(head, path, beta):
    node = model_of(head)
    for key in path:
        node = node[key]
    rng = np.random.default_rng(1)
    found, wanted = rng.normal(0, 1, (2, 40, 5))
    loss = MODELS.build(node.loss_bbox)
    weight = torch.ones(40, 5)
    value = loss(torch.tensor(found).float(), torch.tensor(wanted).float(), weight, avg_factor=40)
    assert value.item() == pytest.approx(smooth_l1(found - wanted, beta) / 40, rel=1e-5)


def test_cross_entropies():
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 2, (30, 16)), rng.integers(0, 16, 30)
    model = model_of("oriented_rcnn")
    softmax = MODELS.build(model.roi_head.bbox_head.loss_cls)
    value = softmax(torch.tensor(logits).float(), torch.tensor(labels), torch.ones(30), avg_factor=30)
    assert value.item() == pytest.approx(softmax_entropy(logits, labels) / 30, rel=1e-5)
    one, hit = rng.normal(0, 2, 30), rng.integers(0, 2, 30)  # the proposal network's: label 0 is an object
    sigmoid = MODELS.build(model.rpn_head.loss_cls)
    found = sigmoid(torch.tensor(one).float()[:, None], torch.tensor(1 - hit), torch.ones(30), avg_factor=30)
    p = 1 / (1 + np.exp(-one))
    assert found.item() == pytest.approx(-np.where(hit, np.log(p), np.log(1 - p)).mean(), rel=1e-5)


def test_whole_loss_of_s2anets_first_stage():
    """Anchors, assignment, targets and both losses at once, from maps of chosen numbers."""
    cfg = model_of("s2anet")
    strides = [16, 32]
    head_cfg = {**cfg.bbox_head_init, "in_channels": 8, "feat_channels": 8, "train_cfg": cfg.train_cfg.init}
    head_cfg["anchor_generator"] = {**head_cfg["anchor_generator"], "strides": strides}
    head = MODELS.build(head_cfg)
    objects = normalise([[40, 44, 60, 40, 0.5], [90, 90, 90, 70, -0.2], [20, 100, 50, 46, 0.1]], "le135")
    labels = np.array([3, 0, 14])
    sizes = [(SIDE // stride, SIDE // stride) for stride in strides]
    rng = np.random.default_rng(4)
    scores = [rng.normal(-1, 1, (1, 15, *size)) for size in sizes]
    deltas = [rng.normal(0, 0.5, (1, 5, *size)) for size in sizes]
    truth = sample(objects.tolist(), labels.tolist())
    meta = {**truth.metainfo, "pad_shape": (SIDE, SIDE), "batch_input_shape": (SIDE, SIDE)}
    found = head.loss_by_feat(
        [torch.tensor(level).float() for level in scores],
        [torch.tensor(level).float() for level in deltas],
        [truth.gt_instances],
        [meta],
    )

    anchors = np.concatenate(grid(sizes, strides, lambda s: [(4 * s, 4 * s)]))
    anchors = np.concatenate([anchors, np.zeros((len(anchors), 1))], axis=1)
    owner = assign(overlaps(objects, anchors), 0.5, 0.4, 1e-6, True)
    assert (owner > 0).sum() >= 3 and (owner == -1).any()
    flat_scores = np.concatenate([level[0].reshape(15, -1).T for level in scores])
    flat_deltas = np.concatenate([level[0].reshape(5, -1).T for level in deltas])
    used = owner >= 0
    target_labels = np.where(owner > 0, labels[owner - 1], 15)
    hits = np.flatnonzero(owner > 0)
    targets = [encode_rotated(anchors[i], objects[owner[i] - 1], [1] * 5, False, True, math.pi) for i in hits]
    count = len(hits)
    assert sum(found["loss_cls"]).item() == pytest.approx(
        focal(flat_scores[used], target_labels[used]) / count, rel=1e-4
    )
    assert sum(found["loss_bbox"]).item() == pytest.approx(
        smooth_l1(flat_deltas[hits] - np.array(targets), 0.11) / count, rel=1e-3
    )
