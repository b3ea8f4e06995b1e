import pytest
import torch
from mmcv.ops import batched_nms
from mmcv.ops import nms as mmcv_nms

from rsfoundation.ops import nms
from rsfoundation.ops.checks import OperatorInputError


def brute_force(boxes, scores, threshold, offset):
    area = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        low, high = torch.maximum(boxes[i, :2], boxes[kept, :2]), torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        common = (high - low + offset).clamp(min=0).prod(1)
        if not (common / (area[i] + area[kept] - common) > threshold).any():
            kept.append(i)
    return kept


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 100
    size = torch.rand(300, 2, generator=generator) * 20
    return torch.cat([corner, corner + size], 1), torch.rand(300, generator=generator)


@pytest.mark.parametrize("offset", [0, 1])
def test_keeps_what_brute_force_keeps(scene, offset):
    expected = brute_force(*scene, 0.3, offset)
    assert nms(*scene, 0.3, offset).tolist() == expected
    assert mmcv_nms(*scene, 0.3, offset)[1].tolist() == expected


def test_batched_classes_do_not_meet(scene):
    boxes, scores = scene
    labels = torch.arange(300) % 4
    kept = batched_nms(boxes, scores, labels, dict(type="nms", iou_threshold=0.3))[1]
    expected = [
        torch.nonzero(labels == c)[:, 0][brute_force(boxes[labels == c], scores[labels == c], 0.3, 0)]
        for c in range(4)
    ]
    assert sorted(kept.tolist()) == sorted(torch.cat(expected).tolist())


def test_empty_and_wrong_shape():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    with pytest.raises(OperatorInputError, match=r"\(n, 4\)"):
        nms(torch.zeros(2, 5), torch.zeros(2), 0.5)
