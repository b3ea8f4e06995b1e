"""Our proposals equal upstream's."""

import mmrotate.models.dense_heads as upstream
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.models.heads.oriented_rpn_head import OrientedRPNHead
from rsfoundation.registry import MODELS

CFG = ConfigDict(nms_pre=500, max_per_img=40, nms={"type": "nms", "iou_threshold": 0.8}, min_bbox_size=0)


def candidates(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(count, 5, generator=generator) * torch.tensor([200, 200, 40, 20, 3.0])
    boxes[::7, 2] = 0  # of no area: dropped
    return InstanceData(
        bboxes=RotatedBoxes(boxes),
        scores=torch.rand(count, generator=generator),
        level_ids=torch.randint(0, 4, (count,), generator=generator),
    )


@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_same_proposals(count):
    theirs = upstream.OrientedRPNHead._bbox_post_process(None, candidates(count), CFG)
    ours = OrientedRPNHead._bbox_post_process(None, candidates(count), CFG)
    assert len(ours.bboxes) == len(theirs.bboxes) <= CFG.max_per_img
    assert isinstance(ours.bboxes, RotatedBoxes)
    torch.testing.assert_close(ours.bboxes.tensor, theirs.bboxes.tensor.reshape(-1, 5))
    torch.testing.assert_close(ours.scores, theirs.scores)
    assert ours.labels.eq(0).all() and ours.labels.dtype == torch.long


def test_registered_beside_upstream():
    assert MODELS.get("rsfoundation.OrientedRPNHead") is OrientedRPNHead
