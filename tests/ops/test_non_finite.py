"""What operators on boxes and polygons do with no boxes, and with NaN and infinity."""

import math

import pytest
import torch
import torchvision
from mmcv.ops import batched_nms, rotated_feature_align
from mmdet.models.dense_heads import RPNHead, YOLOXHead
from mmengine.config import ConfigDict

from rsfoundation import ops
from rsfoundation.ops import checks

BAD = [math.nan, math.inf, -math.inf]

# Operator -> widths of the tables it takes, and a call on them.
CALLS = {
    "box_iou_rotated": ((5, 5), ops.box_iou_rotated),
    "box_iou_quadri": ((8, 8), ops.box_iou_quadri),
    "convex_iou": ((18, 8), ops.convex_iou),
    "convex_giou": ((18, 8), ops.convex_giou),
    "min_area_polygons": ((18,), ops.min_area_polygons),
    "points_in_polygons": ((2, 8), ops.points_in_polygons),
    "nms": ((4, 1), lambda boxes, scores: ops.nms(boxes, scores[:, 0], 0.5)),
    "nms_rotated": ((5, 1), lambda boxes, scores: ops.nms_rotated(boxes, scores[:, 0], 0.5)),
    "nms_quadri": ((8, 1), lambda boxes, scores: ops.nms_quadri(boxes, scores[:, 0], 0.5)),
    "soft_nms": ((4, 1), lambda boxes, scores: ops.soft_nms(boxes, scores[:, 0], 0.5, 0.5, 0.05, 1)),
    "nms_match": ((5,), lambda dets: ops.nms_match(dets, 0.5)),
}
# Suppression of upright boxes in the tables that each operator takes.
UPRIGHT = {
    "nms": ops.nms,
    "nms_rotated": lambda boxes, scores, limit: ops.nms_rotated(rotated(boxes), scores, limit),
    "nms_quadri": lambda boxes, scores, limit: ops.nms_quadri(quads(boxes), scores, limit),
    "soft_nms": lambda boxes, scores, limit: ops.soft_nms(boxes, scores, limit, 0.5, 1e-9, 0)[1],
    "nms_match": lambda boxes, scores, limit: torch.tensor(
        [group[0] for group in ops.nms_match(torch.cat([boxes, scores[:, None]], 1), limit)]
    ),
}


def rotated(boxes):
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, size, torch.zeros_like(size[:, :1])], 1)


def quads(boxes):
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]


def scene(count=60, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(count, 2, generator=generator) * 40
    size = torch.rand(count, 2, generator=generator) * 20 + 1
    return torch.cat([corner, corner + size], 1).to(dtype), torch.rand(count, generator=generator).to(dtype)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_in_nothing_out(name):
    widths, call = CALLS[name]
    result = call(*(torch.zeros(0, width) for width in widths))
    for part in result if isinstance(result, (tuple, list)) else [result]:
        assert len(part) == 0


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", UPRIGHT)
def test_boxes_that_are_not_finite_are_kept_and_suppress_nothing_as_in_torchvision(name, bad):
    boxes, scores = scene()
    for place, column in ((3, 0), (10, 1), (20, 2), (21, 3)):
        boxes[place, column] = bad
    boxes[30] = bad
    expected = torchvision.ops.nms(boxes, scores, 0.3).tolist()
    assert {3, 10, 20, 21, 30} <= set(expected)
    assert len(expected) < 60
    assert UPRIGHT[name](boxes, scores, 0.3).tolist() == expected


@pytest.mark.parametrize("name", UPRIGHT)
def test_scores_that_are_not_finite_rank_as_in_torchvision(name):
    boxes, scores = scene()
    scores[[5, 17, 40]], scores[[6, 30]], scores[[7, 8]] = math.nan, math.inf, -math.inf
    expected = torchvision.ops.nms(boxes, scores, 0.3).tolist()
    found = UPRIGHT[name](boxes, scores, 0.3).tolist()
    if name == "soft_nms":  # drops scores below its least one
        expected = [index for index in expected if index not in (7, 8)]
    assert found == expected


def test_one_infinite_box_in_a_batch_of_classes():
    """mmcv shifts classes apart by the largest coordinate: all boxes become NaN."""
    boxes, scores = scene()
    boxes[4, 2] = math.inf
    kept = batched_nms(boxes, scores, torch.arange(60) % 3, dict(type="nms", iou_threshold=0.3))[1]
    assert sorted(kept.tolist()) == list(range(60))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["box_iou_rotated", "box_iou_quadri", "convex_iou", "points_in_polygons"])
def test_they_overlap_nothing(name, bad):
    widths, call = CALLS[name]
    generator = torch.Generator().manual_seed(1)
    tables = [torch.rand(5, width, generator=generator) * 4 + 1 for width in widths]
    whole = call(*tables)
    tables[0][1, 0] = tables[1][3, 1] = bad
    expected = whole.clone()
    expected[1] = expected[:, 3] = 0
    assert torch.equal(call(*tables), expected)


@pytest.mark.parametrize("bad", BAD)
def test_losses_and_shapes_of_them_are_nan(bad):
    generator = torch.Generator().manual_seed(2)
    points, polygons = torch.rand(4, 18, generator=generator) * 9, torch.rand(4, 8, generator=generator) * 9
    whole = ops.convex_giou(points, polygons), ops.min_area_polygons(points)
    points[1, 5], polygons[2, 0] = bad, bad
    values, grad = ops.convex_giou(points, polygons)
    assert values.isnan().tolist() == [False, True, True, False]
    assert grad.isnan().all(1).tolist() == [False, True, True, False]
    assert torch.equal(values[[0, 3]], whole[0][0][[0, 3]])
    rectangles = ops.min_area_polygons(points)
    assert rectangles.isnan().all(1).tolist() == [False, True, False, False]
    assert torch.equal(rectangles[[0, 2, 3]], whole[1][[0, 2, 3]])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("width", [5, 6])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions_that_are_not_finite_pool_zeros_and_have_no_gradient(bad, width, ratio):
    from mmcv.ops import RiRoIAlignRotated, RoIAlign, RoIAlignRotated, RoIPool

    layers = [RoIAlign(3, 0.5, ratio), RoIAlign(3, 0.5, ratio, "avg", False), RoIPool(3, 0.5)]
    layers += [RoIAlign(3, 0.5, 2, "max")]
    if width == 6:
        layers = [RoIAlignRotated(3, 0.5, ratio), RiRoIAlignRotated(3, 0.5, 2, 4)]
    maps = torch.rand(1, 8, 9, 9) + 1
    regions = torch.tensor([[0.0, 4, 4, 12, 12, 0.4][:width]]).repeat(2, 1)
    for layer in layers:
        expected = layer(maps, regions[:1])
        for column in range(1, width):
            given, leaf = regions.clone(), maps.clone().requires_grad_()
            given[1, column] = bad
            out = layer(leaf, given)
            assert torch.equal(out[:1], expected)
            assert not out[1].any()
            (grad,) = torch.autograd.grad(out[1].sum(), leaf)
            assert not grad.any()


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("points", [1, 5])
def test_a_pixel_whose_box_is_not_finite_keeps_its_features(bad, points):
    maps = torch.rand(1, 2, 4, 4, requires_grad=True)
    boxes = torch.rand(1, 4, 4, 5) * 30
    expected = rotated_feature_align(maps, boxes, 1 / 8, points).detach()
    boxes[0, 1, 2] = bad
    expected[0, :, 1, 2] = maps[0, :, 1, 2].detach()
    out = rotated_feature_align(maps, boxes, 1 / 8, points)
    torch.testing.assert_close(out, expected)
    (grad,) = torch.autograd.grad(out[0, :, 1, 2].sum(), maps)
    assert grad.sum() == 2


def test_they_are_logged_once_for_each_operator(monkeypatch):
    monkeypatch.setattr(checks, "_warned", set())
    logged = []
    monkeypatch.setattr(
        "mmengine.logging.print_log", lambda text, logger, level: logged.append((text, level))
    )
    boxes, scores = scene(5)
    boxes[2, 0], scores[4] = math.nan, math.inf
    for _ in range(3):
        ops.nms(boxes, scores, 0.5)
        ops.nms_rotated(rotated(boxes), scores, 0.5)
    assert [text.split(":")[0] for text, _ in logged] == [
        "nms (scores)", "nms", "nms_rotated (scores)", "nms_rotated"
    ]  # fmt: skip
    assert "1 of 5 rows hold NaN or infinity, row 2 first" in logged[1][0]
    assert {level for _, level in logged} == {30}


def test_a_fresh_yolox_predicts_although_a_size_overflows():
    head = YOLOXHead(
        4, 1, stacked_convs=1, test_cfg=ConfigDict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65))
    )
    classes, sizes, objectness = head([torch.rand(1, 1, side, side) for side in (8, 4, 2)])
    sizes[0][0, 2, 0, 0] = 200.0  # its exponential is infinite
    metas = [dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))]
    (result,) = head.predict_by_feat(classes, sizes, objectness, batch_img_metas=metas, rescale=True)
    assert len(result) > 10


def test_a_region_proposal_network_goes_through_with_one_score_that_is_nan():
    head = RPNHead(in_channels=8, feat_channels=8)
    scores, deltas = head([torch.rand(1, 8, side, side) for side in (16, 8, 4, 2, 1)])
    scores[0][0, 0, 3, 3] = math.nan
    cfg = ConfigDict(nms_pre=200, max_per_img=100, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)
    metas = [dict(img_shape=(64, 64), scale_factor=(1.0, 1.0))]
    (result,) = head.predict_by_feat(scores, deltas, batch_img_metas=metas, cfg=cfg)
    assert result.scores[0].isnan()
    assert torch.isfinite(result.bboxes).all()
