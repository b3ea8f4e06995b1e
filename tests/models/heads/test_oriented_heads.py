"""Our proposals equal upstream's; every level has an aligned convolution of its own."""

import mmrotate.models.dense_heads as upstream
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmrotate.models.layers import AlignConv
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.models.heads.oriented import OrientedRPNHead, PerLevelAlignConv
from rsfoundation.registry import MODELS

STRIDES = [8, 16]
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


def test_registered_next_to_upstream():
    assert MODELS.get("rsfoundation.OrientedRPNHead") is OrientedRPNHead


def boxes_of(generator, height, width, stride):
    centres = torch.cartesian_prod(torch.arange(height) * stride, torch.arange(width) * stride).flip(1)
    sizes = torch.rand(len(centres), 2, generator=generator) * 3 * stride + stride
    angles = torch.rand(len(centres), 1, generator=generator) * 3 - 1.5
    return torch.cat([centres.float(), sizes, angles], dim=1)


def test_every_level_computes_with_its_own_weights():
    generator = torch.Generator().manual_seed(0)
    module = PerLevelAlignConv(8, 3, STRIDES)
    module.init_weights()
    maps = [torch.rand(2, 8, 6, 5, generator=generator), torch.rand(2, 8, 3, 3, generator=generator)]
    boxes = [
        [boxes_of(generator, *m.shape[2:], s) for m, s in zip(maps, STRIDES, strict=True)] for _ in range(2)
    ]
    found = module(maps, boxes)
    for level, stride in enumerate(STRIDES):
        alone = AlignConv(8, 3, [stride])
        alone.deform_conv.weight.data = module.ac[level].deform_conv.weight.data
        expected = alone([maps[level]], [[image[level]] for image in boxes])[0]
        torch.testing.assert_close(found[level], expected)
    assert not torch.equal(module.ac[0].deform_conv.weight, module.ac[1].deform_conv.weight)


def test_boxes_on_the_grid_make_a_plain_convolution():
    """A box of three cells about its own cell samples just where an ordinary 3 x 3 kernel does."""
    module = PerLevelAlignConv(4, 3, [8])
    x = torch.rand(1, 4, 5, 7)
    centres = torch.cartesian_prod(torch.arange(5.0), torch.arange(7.0)).flip(1) * 8
    boxes = torch.cat([centres, torch.full((35, 2), 24.0), torch.zeros(35, 1)], dim=1)
    expected = torch.nn.functional.conv2d(x, module.ac[0].deform_conv.weight, padding=1).relu()
    torch.testing.assert_close(module([x], [[boxes]])[0], expected, rtol=1e-4, atol=1e-5)


def test_keys_are_those_of_mmrotate_0():
    assert set(PerLevelAlignConv(4, 3, [8, 16, 32]).state_dict()) == {
        f"ac.{level}.deform_conv.weight" for level in range(3)
    }
