"""Equal scores: suppression takes boxes in their order. torch's own sort does not, from 17 elements on."""

import mmcv.ops
import pytest
import torch
import torchvision

from rsfoundation import ops


def rotated(boxes):
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, size, torch.zeros_like(size[:, :1])], 1)


def quads(boxes):
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]


SUPPRESSION = {
    "nms": ops.nms,
    "nms_rotated": lambda boxes, scores, limit: ops.nms_rotated(rotated(boxes), scores, limit),
    "nms_rotated, labels": lambda boxes, scores, limit: ops.nms_rotated(
        rotated(boxes), scores, limit, torch.zeros(len(boxes))
    ),
    "nms_quadri": lambda boxes, scores, limit: ops.nms_quadri(quads(boxes), scores, limit),
    "soft_nms": lambda boxes, scores, limit: ops.soft_nms(boxes, scores, limit, 0.5, 1e-9, 0)[1],
    "nms_match": lambda boxes, scores, limit: torch.tensor(
        [group[0] for group in ops.nms_match(torch.cat([boxes, scores[:, None]], 1), limit)]
    ),
    "mmcv.ops.nms": lambda boxes, scores, limit: mmcv.ops.nms(boxes, scores, limit)[1],
    "mmcv.ops.nms_rotated": lambda boxes, scores, limit: mmcv.ops.nms_rotated(rotated(boxes), scores, limit)[
        1
    ],
    "mmcv.ops.nms_quadri": lambda boxes, scores, limit: mmcv.ops.nms_quadri(quads(boxes), scores, limit)[1],
    "mmcv.ops.soft_nms": lambda boxes, scores, limit: mmcv.ops.soft_nms(
        boxes, scores, limit, 0.5, 1e-9, "naive"
    )[1],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SUPPRESSION)
def test_ten_tied_pairs(name, dtype):
    corner = torch.arange(10, dtype=dtype).repeat_interleave(2)[:, None] * 100
    boxes = torch.cat([corner, corner, corner + 10, corner + 10], 1)
    kept = SUPPRESSION[name](boxes, torch.full((20,), 0.5, dtype=dtype), 0.5)
    assert kept.tolist() == list(range(0, 20, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [17, 100, 1000])
@pytest.mark.parametrize("name", SUPPRESSION)
def test_few_distinct_scores(name, count, dtype):
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=generator) * 8 * count**0.5
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 20 + 5], 1).to(dtype)
    scores = torch.randint(1, 4, (count,), generator=generator).to(dtype) / 4
    expected = torchvision.ops.nms(boxes, scores, 0.3)
    assert len(expected) < count
    assert SUPPRESSION[name](boxes, scores, 0.3).tolist() == expected.tolist()


def test_groups_of_tied_boxes_list_the_others_in_order():
    dets = torch.tensor([[0.0, 0, 10, 10, 0.5]]).repeat(20, 1)
    assert ops.nms_match(dets, 0.5) == [list(range(20))]


def test_scores_finer_than_the_boxes_are_not_tied():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(2, 1)
    assert ops.nms(boxes, torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64), 0.5).tolist() == [1]
    assert ops.nms(boxes.half(), torch.tensor([0.5, 0.5 + 1e-6]), 0.5).tolist() == [1]
