import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import box_iou_quadri as mmcv_iou_quadri
from mmcv.ops import (
    chamfer_distance,
    convex_giou,
    convex_iou,
    diff_iou_rotated_2d,
    min_area_polygons,
    nms_quadri,
    points_in_polygons,
)

from rsfoundation.ops import box_iou_rotated
from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.polygons import box_iou_quadri

DOUBLE = torch.float64


def hulls(points):
    return shapely.convex_hull(shapely.multipoints(points.reshape(len(points), -1, 2)))


def shapely_iou(a, b):
    common = shapely.area(shapely.intersection(a, b))
    return common / (shapely.area(a) + shapely.area(b) - common)


def clouds(count, corners, seed, extent=30.0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, extent, (count, 1, 2))
    return (centre + rng.normal(size=(count, corners, 2)) * rng.uniform(1, 10, (count, 1, 1))).reshape(
        count, -1
    )


@pytest.mark.parametrize("mode", ["iou", "iof"])
def test_quadrilaterals_equal_shapely(mode):
    a, b = clouds(60, 4, 1), clouds(50, 4, 2)
    first, second = hulls(a)[:, None], hulls(b)[None]
    common = shapely.area(shapely.intersection(first, second))
    base = shapely.area(first) if mode == "iof" else shapely.area(first) + shapely.area(second) - common
    ours = mmcv_iou_quadri(torch.tensor(a), torch.tensor(b), mode)
    np.testing.assert_allclose(ours.numpy(), common / base, atol=1e-9)
    aligned = mmcv_iou_quadri(torch.tensor(a[:50]), torch.tensor(b), mode, aligned=True)
    torch.testing.assert_close(aligned, ours[:50].diagonal())


def test_degenerate_quadrilaterals_overlap_nothing():
    line = torch.tensor([[0.0, 0, 1, 1, 2, 2, 3, 3]])
    square = torch.tensor([[0.0, 0, 4, 0, 4, 4, 0, 4]])
    assert box_iou_quadri(line, square).item() == 0
    assert box_iou_quadri(square, square).item() == pytest.approx(1)
    assert box_iou_quadri(square, square.view(4, 2).flip(0).reshape(1, 8)).item() == pytest.approx(1)
    assert box_iou_quadri(torch.zeros(0, 8), square).shape == (0, 1)
    assert box_iou_quadri(torch.full((1, 8), float("nan")), square).item() == 0
    with pytest.raises(OperatorInputError, match="aligned"):
        box_iou_quadri(torch.zeros(2, 8), square, aligned=True)


@pytest.mark.parametrize("labelled", [False, True])
def test_suppression_of_quadrilaterals(labelled):
    boxes, scores = torch.tensor(clouds(200, 4, 3)).float(), torch.rand(200)
    labels = torch.arange(200) % 3 if labelled else None
    over = box_iou_quadri(boxes, boxes) >= 0.2
    if labels is not None:
        over &= labels[:, None] == labels[None]
    kept = []
    for i in scores.argsort(descending=True).tolist():
        if not any(over[i, j] for j in kept):
            kept.append(i)
    assert nms_quadri(boxes, scores, 0.2, labels)[1].tolist() == kept


def test_point_sets_against_quadrilaterals():
    points, quads = clouds(40, 9, 4), clouds(30, 4, 5)
    expected = shapely_iou(hulls(points)[:, None], hulls(quads)[None])
    ours = convex_iou(torch.tensor(points), torch.tensor(quads))
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-9)


def giou(points, quads):
    a, b = hulls(points), hulls(quads)
    common = shapely.area(shapely.intersection(a, b))
    union = shapely.area(a) + shapely.area(b) - common
    whole = shapely.area(shapely.convex_hull(shapely.union(a, b)))
    return common / union + union / whole - 1


def test_generalized_iou_and_its_gradient():
    points, quads = clouds(60, 9, 6, extent=15), clouds(60, 4, 7, extent=15)
    value, grad = convex_giou(torch.tensor(points), torch.tensor(quads))
    np.testing.assert_allclose(value.numpy(), giou(points, quads), atol=1e-9)
    step = 1e-6
    for column in range(18):
        moved = [points.copy(), points.copy()]
        moved[0][:, column] += step
        moved[1][:, column] -= step
        slope = (giou(moved[0], quads) - giou(moved[1], quads)) / (2 * step)
        np.testing.assert_allclose(grad[:, column].numpy(), slope, atol=1e-6)


def test_generalized_iou_of_collapsed_sets():
    points = torch.zeros(1, 18)
    value, grad = convex_giou(points, torch.tensor([[0.0, 0, 4, 0, 4, 4, 0, 4]]))
    assert value.item() == pytest.approx(0.0)
    assert torch.isfinite(grad).all()
    with pytest.raises(OperatorInputError, match="point sets"):
        convex_giou(points, torch.zeros(2, 8))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_smallest_rectangle(seed):
    points = clouds(3, 9, seed)
    rectangles = min_area_polygons(torch.tensor(points)).numpy()
    shapes = shapely.polygons(rectangles.reshape(-1, 4, 2))
    least = shapely.area(shapely.oriented_envelope(hulls(points)))
    assert (shapely.area(shapes) <= least * (1 + 1e-9)).all()
    assert shapely.covers(shapely.buffer(shapes, 1e-6), hulls(points)).all()
    corners = rectangles.reshape(-1, 4, 2)
    sides = corners - np.roll(corners, 1, 1)
    np.testing.assert_allclose((sides * np.roll(sides, 1, 1)).sum(-1), 0, atol=1e-6)


def test_points_in_quadrilaterals():
    quads = clouds(20, 4, 8)
    convex = np.stack([np.array(h.exterior.coords)[:-1][[0, 1, 2, -1]] for h in hulls(quads)]).reshape(20, 8)
    points = np.random.default_rng(9).uniform(-10, 40, (300, 2))
    expected = shapely.contains(
        shapely.polygons(convex.reshape(-1, 4, 2))[None], shapely.points(points)[:, None]
    )
    ours = points_in_polygons(torch.tensor(points).float(), torch.tensor(convex).float())
    assert (ours.bool().numpy() == expected).mean() > 0.999


def by_counting(point, quad):
    """Return whether a point is in a quadrilateral, edge by edge as mmcv's CUDA kernel defines it."""
    corners, crossings = quad.reshape(4, 2).tolist(), 0
    px, py = point.tolist()
    for i in range(4):
        (sx, sy), (tx, ty) = corners[i], corners[i - 1]
        if (px, py) in ((sx, sy), (tx, ty)):
            break
        if (sy < py) != (ty < py):
            x = sx + (py - sy) * (tx - sx) / (ty - sy)
            if x == px:
                break
            crossings += x > px
    return crossings % 2 == 1


def orders(quad):
    """Return a quadrilateral from every corner on, either way round."""
    corners = np.asarray(quad, float).reshape(4, 2)
    return [np.roll(way, shift, 0).ravel() for way in (corners, corners[::-1]) for shift in range(4)]


@pytest.mark.parametrize(
    "quad",
    [
        [2, 3, 9, 3, 9, 7, 2, 7],  # upright
        [5, 1, 9, 5, 5, 9, 1, 5],  # on a corner
        [1, 2, 7, 4, 6, 9, 2, 8],
        [1, 1, 8, 1, 5, 5, 3, 5],
        [0, 0, 8, 4, 0, 8, 4, 4],  # not convex
        [1, 1, 9, 1, 9, 1, 1, 1],  # no area
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_number_points_on_edges_and_corners_follow_mmcv(quad, dtype):
    grid = np.stack(np.meshgrid(np.arange(-1, 12), np.arange(-1, 12)), -1).reshape(-1, 2).astype(float)
    quads = np.stack(orders(quad))
    expected = [[by_counting(point, quad) for quad in quads] for point in grid]
    found = points_in_polygons(torch.tensor(grid, dtype=dtype), torch.tensor(quads, dtype=dtype))
    assert found.bool().tolist() == expected


def test_boundaries_of_upright_boxes():
    """Which sides of a box belong to it depends on its first corner."""
    box = torch.tensor([[0.0, 0, 4, 0, 4, 4, 0, 4]])  # clockwise on the screen, from the upper left
    sides = dict(top=[2, 0], right=[4, 2], bottom=[2, 4], left=[0, 2])
    corners = [[0, 0], [4, 0], [4, 4], [0, 4]]
    inside = points_in_polygons(torch.tensor([*sides.values(), *corners, [2, 2]]).float(), box)[:, 0]
    named = dict(zip([*sides, *range(4), "middle"], inside.bool().tolist(), strict=True))
    assert named == {
        "top": False, "right": False, "bottom": True, "left": False,
        0: False, 1: False, 2: False, 3: False, "middle": True,
    }  # fmt: skip


def test_differentiable_rotated_iou():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([10.0, 10, 12, 12, 3])
    a, b = (torch.rand(1, 50, 5, dtype=DOUBLE, generator=generator) * scale + 0.5 for _ in range(2))
    a.requires_grad_()
    torch.testing.assert_close(
        diff_iou_rotated_2d(a, b)[0], box_iou_rotated(a[0], b[0], aligned=True), atol=1e-6, rtol=0
    )
    assert torch.autograd.gradcheck(lambda boxes: diff_iou_rotated_2d(boxes, b), (a,), atol=1e-4)
    same = b.clone().requires_grad_()
    torch.testing.assert_close(
        diff_iou_rotated_2d(same, b), torch.ones(1, 50, dtype=DOUBLE), atol=1e-6, rtol=0
    )
    far = b + torch.tensor([100.0, 0, 0, 0, 0])
    assert diff_iou_rotated_2d(far, b).abs().max() == 0


def test_chamfer_distance():
    a = torch.rand(2, 6, 2, dtype=DOUBLE, requires_grad=True)
    b = torch.rand(2, 5, 2, dtype=DOUBLE, requires_grad=True)
    distances = torch.cdist(a, b).square()
    one, two, index, _ = chamfer_distance(a, b)
    torch.testing.assert_close(one, distances.min(2).values)
    torch.testing.assert_close(two, distances.min(1).values)
    assert index.tolist() == distances.argmin(2).tolist()
    assert torch.autograd.gradcheck(lambda x, y: chamfer_distance(x, y)[:2], (a, b))
