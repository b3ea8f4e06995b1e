import math

import pytest
import torch
from mmcv.ops import bbox_overlaps, nms_match, soft_nms

from rsfoundation.ops import nms


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(80, 2, generator=generator) * 60
    size = torch.rand(80, 2, generator=generator) * 20 + 1
    return torch.cat([corner, corner + size], 1), torch.rand(80, generator=generator)


def soft_reference(boxes, scores, threshold, sigma, min_score, method):
    left = {i: float(s) for i, s in enumerate(scores)}
    out = []
    while left:
        best = max(left, key=left.get)
        score = left.pop(best)
        out.append((best, score))
        for i in list(left):
            iou = float(bbox_overlaps(boxes[best : best + 1], boxes[i : i + 1]))
            if method == "gaussian":
                left[i] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                left[i] *= 0 if method == "naive" else 1 - iou
            if left[i] < min_score:
                del left[i]
    return out


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_suppression(scene, method):
    dets, kept = soft_nms(*scene, 0.3, 0.5, 0.05, method)
    expected = soft_reference(*scene, 0.3, 0.5, 0.05, method)
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
    torch.testing.assert_close(dets[:, :4], scene[0][kept])


def test_soft_suppression_of_nothing():
    dets, kept = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert len(kept) == 0


def test_matches_partition_the_boxes(scene):
    groups = nms_match(torch.cat([scene[0], scene[1][:, None]], 1), 0.3)
    assert [int(group[0]) for group in groups] == nms(*scene, 0.3).tolist()
    assert sorted(int(i) for group in groups for i in group) == list(range(80))


@pytest.mark.parametrize("offset", [0, 1])
def test_upright_overlap(offset):
    a, b = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[5.0, 0, 14, 9], [0, 0, 9, 4], [50, 50, 60, 60]])
    side, half, width = 9 + offset, 4 + offset, 4 + offset
    common = width * side
    expected = [common / (2 * side * side - common), half / side, 0.0]
    assert bbox_overlaps(a, b, offset=offset)[0].tolist() == pytest.approx(expected)
    assert bbox_overlaps(a, b, "iof", offset=offset)[0].tolist() == pytest.approx(
        [width / side, half / side, 0]
    )
    assert bbox_overlaps(a, b[:1], aligned=True, offset=offset).tolist() == pytest.approx(expected[:1])
