import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfoundation.ops import box_iou_rotated, nms_rotated
from rsfoundation.ops.checks import OperatorInputError


def brute_force(boxes, scores, threshold, labels=None):
    over = box_iou_rotated(boxes, boxes) >= torch.tensor(threshold, dtype=torch.float32)
    if labels is not None:
        over &= labels[:, None] == labels[None]
    kept = []
    for i in scores.sort(0, descending=True)[1].tolist():
        if not any(over[j, i] for j in kept):
            kept.append(i)
    return kept


def scene(count, extent, seed, largest=60.0):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(count, 2, generator=generator) * largest + 2
    centres = torch.rand(count, 2, generator=generator) * extent - extent / 3
    angles = torch.rand(count, 1, generator=generator) * 6.3 - 3.1
    return torch.cat([centres, sizes, angles], 1), torch.rand(count, generator=generator)


@pytest.mark.parametrize("extent", [60, 400, 4000])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_keeps_what_brute_force_keeps(extent, threshold):
    boxes, scores = scene(600, extent, seed=extent)
    assert nms_rotated(boxes, scores, threshold).tolist() == brute_force(boxes, scores, threshold)


def test_sizes_of_every_scale_together():
    boxes, scores = scene(500, 300, seed=1)
    boxes[:, 2:4] *= torch.logspace(-3, 2, 500)[:, None]
    assert nms_rotated(boxes, scores, 0.2).tolist() == brute_force(boxes, scores, 0.2)


def test_labels_separate_classes():
    boxes, scores = scene(400, 150, seed=2)
    labels = torch.arange(400) % 3
    kept = nms_rotated(boxes, scores, 0.1, labels)
    assert kept.tolist() == brute_force(boxes, scores, 0.1, labels)
    assert len(kept) > len(nms_rotated(boxes, scores, 0.1))


def test_degenerate_boxes():
    boxes = torch.tensor([[10.0, 10, 5, 5, 0]] * 3 + [[10, 10, 0, 5, 0]] * 2 + [[1e7, 1e7, 5, 5, 0]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert nms_rotated(boxes, scores, 0.5).tolist() == [0, 3, 4, 5]
    assert nms_rotated(boxes, scores, 0.0).tolist() == [0]
    assert nms_rotated(boxes, scores, 0.0, torch.tensor([0, 1, 1, 0, 0, 1])).tolist() == [0, 1]


def test_empty_and_wrong_input():
    assert nms_rotated(torch.zeros(0, 5), torch.zeros(0), 0.1).tolist() == []
    assert nms_rotated(torch.full((2, 5), float("nan")), torch.ones(2), 0.1).tolist() == [0, 1]
    with pytest.raises(OperatorInputError, match="scores"):
        nms_rotated(torch.rand(2, 5), torch.ones(3), 0.1)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 10_000), st.floats(0.02, 1.0), st.floats(5, 200))
def test_any_scene(count, seed, threshold, extent):
    boxes, scores = scene(count, extent, seed)
    assert nms_rotated(boxes, scores, threshold).tolist() == brute_force(boxes, scores, threshold)
