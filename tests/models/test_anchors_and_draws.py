"""Anchors, assignment and draws equal mmdet's."""

import mmdet.models.task_modules as upstream
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from mmrotate.models.task_modules.prior_generators import FakeRotatedAnchorGenerator
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.models import task_modules as own
from rsfoundation.models.task_modules import AnchorGenerator, MaxIoUAssigner, RandomSampler

SIZES = [(16, 12), (8, 6)]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 9),
    st.integers(0, 40),
    st.integers(0, 10_000),
    st.sampled_from(
        [
            dict(neg_iou_thr=0.3, min_pos_iou=0.3),
            dict(neg_iou_thr=(0.1, 0.4), min_pos_iou=0.0),
            dict(neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
            dict(neg_iou_thr=0.4, min_pos_iou=0.2, gt_max_assign_all=False),
        ]
    ),
)
def test_same_assignment(objects, boxes, seed, options):
    generator = torch.Generator().manual_seed(seed)
    # tenths: many boxes overlap several objects equally, and some objects have no overlap at all
    overlaps = (torch.rand(objects, boxes, generator=generator) * 10).floor() / 10
    overlaps[:, torch.rand(boxes, generator=generator) < 0.2] = -1  # ignored
    overlaps[: objects // 3] = overlaps[: objects // 3].clamp(max=0)
    labels = torch.randint(0, 5, (objects,), generator=generator)
    settings_of = dict(pos_iou_thr=0.7, iou_calculator=dict(type="mmdet.BboxOverlaps2D"), **options)
    ours = MaxIoUAssigner(**settings_of).assign_wrt_overlaps(overlaps, labels)
    theirs = upstream.MaxIoUAssigner(**settings_of).assign_wrt_overlaps(overlaps, labels)
    assert ours.num_gts == theirs.num_gts
    for name in ("gt_inds", "max_overlaps", "labels"):
        found, wanted = getattr(ours, name), getattr(theirs, name)
        assert found.dtype == wanted.dtype
        assert found.tolist() == wanted.tolist()


def test_more_objects_than_are_compared_at_once():
    generator = torch.Generator().manual_seed(0)
    overlaps = (torch.rand(300, 90, generator=generator) * 10).floor() / 10
    labels = torch.arange(300)
    options = dict(pos_iou_thr=0.95, neg_iou_thr=0.1, iou_calculator=dict(type="mmdet.BboxOverlaps2D"))
    ours = MaxIoUAssigner(**options).assign_wrt_overlaps(overlaps, labels)
    theirs = upstream.MaxIoUAssigner(**options).assign_wrt_overlaps(overlaps, labels)
    assert ours.gt_inds.tolist() == theirs.gt_inds.tolist()
    assert ours.gt_inds.max() > own._OBJECTS_AT_ONCE


def test_a_pair_may_be_a_list():
    """Converted configs have lists where others have tuples."""
    options = dict(pos_iou_thr=0.7, iou_calculator=dict(type="mmdet.BboxOverlaps2D"), match_low_quality=False)
    overlaps = torch.tensor([[0.05, 0.2, 0.5, 0.9]])
    for pair in ((0.1, 0.4), [0.1, 0.4]):
        found = MaxIoUAssigner(neg_iou_thr=pair, **options).assign_wrt_overlaps(overlaps, torch.tensor([3]))
        assert found.gt_inds.tolist() == [-1, 0, -1, 1]


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize(("positives", "objects", "limit"), [(0, 0, -1), (3, 2, -1), (90, 5, -1), (4, 1, 2)])
def test_same_draws(typed, add, positives, objects, limit):
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(200 + objects, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 10], 1)
    kind = HorizontalBoxes if typed else (lambda tensor: tensor)
    instances = InstanceData(priors=kind(boxes[objects:]))
    truth = InstanceData(bboxes=kind(boxes[:objects]), labels=torch.arange(objects))
    numbers = torch.zeros(200, dtype=torch.long)
    numbers[::17] = -1  # neither object nor background
    numbers[torch.randperm(200, generator=generator)[:positives]] = 1 + torch.arange(positives) % max(
        objects, 1
    )
    results = []
    for sampler in (upstream.RandomSampler, RandomSampler):
        assigned = AssignResult(objects, numbers.clone(), torch.rand(200), labels=numbers.clone() - 1)
        torch.manual_seed(3)
        draw = sampler(num=60, pos_fraction=0.25, neg_pos_ub=limit, add_gt_as_proposals=add)
        results.append(draw.sample(assigned, instances, truth))
    theirs, ours = results
    for name in ("pos_inds", "neg_inds", "pos_is_gt", "pos_assigned_gt_inds", "pos_gt_labels"):
        assert getattr(ours, name).tolist() == getattr(theirs, name).tolist()
    assert ours.avg_factor == theirs.avg_factor
    for name in ("pos_priors", "neg_priors", "pos_gt_bboxes"):
        found, wanted = getattr(ours, name), getattr(theirs, name)
        assert type(found) is type(wanted)
        assert torch.equal(getattr(found, "tensor", found), getattr(wanted, "tensor", wanted))


def test_rotated_objects_join_upright_proposals_upright():
    truth = InstanceData(bboxes=RotatedBoxes(torch.tensor([[20.0, 20, 10, 6, 0]])), labels=torch.tensor([2]))
    instances = InstanceData(priors=HorizontalBoxes(torch.tensor([[0.0, 0, 5, 5]])))
    assigned = AssignResult(1, torch.tensor([0]), torch.tensor([0.0]), labels=torch.tensor([-1]))
    drawn = RandomSampler(num=4, pos_fraction=0.5).sample(assigned, instances, truth)
    assert drawn.pos_priors.tensor.tolist() == [[15, 17, 25, 23]]
    assert drawn.pos_gt_bboxes.tensor.tolist() == [[20, 20, 10, 6, 0]]


ANCHORS = dict(scales=[8], ratios=[0.5, 1.0], strides=[4, 8])
GENERATORS = {
    "anchors": (own.AnchorGenerator, upstream.AnchorGenerator, ANCHORS),
    "box type": (own.AnchorGenerator, upstream.AnchorGenerator, dict(**ANCHORS, use_box_type=True)),
    "rotated": (
        own.FakeRotatedAnchorGenerator,
        FakeRotatedAnchorGenerator,
        dict(**ANCHORS, angle_version="le90"),
    ),
    "points": (own.MlvlPointGenerator, upstream.MlvlPointGenerator, dict(strides=[4, 8])),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_priors_equal_upstreams_and_are_kept(name):
    kind, upstreams, options = GENERATORS[name]
    generator, theirs = kind(**options), upstreams(**options)
    found = generator.grid_priors(SIZES, device="cpu")
    for one, other in zip(found, theirs.grid_priors(SIZES, device="cpu"), strict=True):
        assert type(one) is type(other)
        assert torch.equal(getattr(one, "tensor", one), getattr(other, "tensor", other))
    assert generator.grid_priors([torch.Size(size) for size in SIZES], device=torch.device("cpu")) is found
    for side in range(3, 3 + own.MOST_SIZES):
        generator.grid_priors([(side, side), (side, side)], device="cpu")
    assert generator.grid_priors(SIZES, device="cpu") is not found  # the oldest went


def test_points_with_and_without_strides_are_kept_apart():
    generator = own.MlvlPointGenerator(strides=[4, 8])
    plain = generator.grid_priors(SIZES, device="cpu")
    assert generator.grid_priors(SIZES, device="cpu", with_stride=True)[0].shape[1] == 4
    assert plain[0].shape[1] == 2


def test_anchors_stay_where_they_are_under_mixed_precision():
    generator = AnchorGenerator(scales=[8], ratios=[1.0], strides=[4])
    exact = generator.grid_priors([(256, 256)], device="cpu")[0]
    half = generator.grid_priors([(256, 256)], dtype=torch.bfloat16, device="cpu")[0]
    assert torch.equal(half, exact)
    upstreams = upstream.AnchorGenerator(scales=[8], ratios=[1.0], strides=[4])
    theirs = upstreams.grid_priors([(256, 256)], dtype=torch.bfloat16, device="cpu")[0]
    assert (theirs.float() - exact).abs().max() > 1  # what this is for


def test_double_precision_is_kept():
    generator = AnchorGenerator(scales=[8], ratios=[1.0], strides=[4])
    assert generator.grid_priors([(4, 4)], dtype=torch.float64, device="cpu")[0].dtype == torch.float64


def test_anchors_made_in_a_prediction_serve_a_training():
    generator = AnchorGenerator(scales=[8], ratios=[1.0], strides=[4])
    with torch.inference_mode():
        kept = generator.grid_priors([(4, 4)], device="cpu")[0]
    weight = torch.ones(4, requires_grad=True)
    (kept * weight).sum().backward()
    assert weight.grad is not None
