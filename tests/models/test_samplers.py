"""Proposals from ground truth: the same rectangle is pooled alike whatever its sides are called."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmrotate.registry import MODELS, TASK_UTILS
from mmrotate.structures.bbox import RotatedBoxes
from oriented_heads import BASE, narrow, sample

from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.models.samplers import long_side_first

BOXES = [
    [40, 40, 35, 11, 0.4],
    [85, 45, 30, 15, -1.2],
    [60, 95, 45, 14, 1.3],
    [100, 100, 20, 12, -math.pi / 2],
]


def renamed(boxes, name):
    boxes = np.array(boxes, dtype=np.float64)
    if name == "turned":
        boxes[:, 4] += math.pi
    else:
        boxes[:, 2:4] = boxes[:, [3, 2]]
        boxes[:, 4] += math.pi / 2 if name == "swapped" else -math.pi / 2
    return boxes


@given(st.floats(1, 90), st.floats(1, 90), st.floats(-7, 7))
def test_the_long_side_comes_first_and_no_corner_moves(w, h, theta):
    box = torch.tensor([[9.0, 8.0, w, h, theta]])
    (result,) = long_side_first(box)
    assert result[2] >= result[3] and -np.float32(np.pi / 2) <= result[4] < np.float32(np.pi / 2)
    one, other = (sorted(map(tuple, rbox_to_quad(b.numpy())[0].round(2))) for b in (box[0], result))
    np.testing.assert_allclose(one, other, atol=0.05)


def test_boxes_that_are_named_so_keep_every_bit():
    boxes = torch.tensor(BOXES)
    assert torch.equal(long_side_first(boxes), boxes)
    assert long_side_first(torch.zeros(0, 5)).shape == (0, 5)


def sampled(boxes, sampler="rsfoundation.RotatedRandomSampler"):
    sampler = TASK_UTILS.build(
        dict(type=sampler, num=8, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True)
    )
    assigned = AssignResult(
        4, torch.zeros(3, dtype=torch.long), torch.zeros(3), torch.zeros(3, dtype=torch.long)
    )
    priors = InstanceData(priors=RotatedBoxes(torch.rand(3, 5)))
    truth = InstanceData(bboxes=boxes, labels=torch.zeros(4, dtype=torch.long))
    return sampler.sample(assigned, priors, truth)


@pytest.mark.parametrize("name", ["turned", "swapped", "swapped back"])
def test_ground_truth_joins_the_proposals_with_its_long_side_first(name):
    truth = RotatedBoxes(torch.from_numpy(renamed(BOXES, name)).float())
    result = sampled(truth)
    torch.testing.assert_close(result.pos_priors.tensor, torch.tensor(BOXES)[result.pos_assigned_gt_inds])
    assert torch.equal(truth.tensor, torch.from_numpy(renamed(BOXES, name)).float()), (
        "the sample keeps its own"
    )


def test_upright_boxes_pass_through():
    boxes = HorizontalBoxes(torch.tensor([[1.0, 2, 3, 4]]).repeat(4, 1))
    sampler = TASK_UTILS.build(dict(type="rsfoundation.RotatedRandomSampler", num=4, pos_fraction=0.5))
    assigned = AssignResult(
        4, torch.zeros(1, dtype=torch.long), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    )
    priors = InstanceData(priors=HorizontalBoxes(torch.rand(1, 4)))
    result = sampler.sample(
        assigned, priors, InstanceData(bboxes=boxes, labels=torch.zeros(4, dtype=torch.long))
    )
    assert result.pos_priors.tensor.tolist()[0] == [1, 2, 3, 4]


@pytest.mark.parametrize("head", ["oriented_rcnn", "roi_transformer"])
def test_losses_of_two_stage_heads_do_not_depend_on_the_name(head):
    init_default_scope("mmrotate")
    cfg = Config.fromfile(BASE / f"heads/{head}.py").model
    narrow(cfg)
    cfg.backbone = dict(type="rsfoundation.LSKNet", arch="t")
    cfg.neck.in_channels = [32, 64, 160, 256]
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    model.backbone.eval()  # without noise, and without one batch's statistics
    image = torch.randn(1, 3, 128, 128)

    def losses(boxes):
        torch.manual_seed(3)
        np.random.seed(3)
        made = sample(boxes)
        made.set_metainfo(dict(pad_shape=(128, 128), batch_input_shape=(128, 128)))
        with torch.no_grad():
            found = model.loss(image, [made])
        return {
            key: float(sum(part.sum() for part in value) if isinstance(value, list) else value.sum())
            for key, value in found.items()
            if "loss" in key
        }

    expected = losses(BOXES)
    for name in ("turned", "swapped", "swapped back"):
        assert losses(renamed(BOXES, name).tolist()) == pytest.approx(expected, rel=1e-4)
