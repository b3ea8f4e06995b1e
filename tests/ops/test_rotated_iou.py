import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfoundation.ops import box_iou_rotated, rotated_iou
from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.rotated_iou import _iou_torch, rotated_overlap


def polygons(boxes):
    boxes = np.asarray(boxes, dtype=np.float64)
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    corners = []
    for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        dx, dy = sx * boxes[:, 2] / 2, sy * boxes[:, 3] / 2
        corners.append(np.stack([boxes[:, 0] + dx * cos - dy * sin, boxes[:, 1] + dx * sin + dy * cos], 1))
    return shapely.polygons(np.stack(corners, 1))


def shapely_iou(a, b):
    pa, pb = polygons(a), polygons(b)
    common = shapely.area(shapely.intersection(pa, pb))
    return common / (shapely.area(pa) + shapely.area(pb) - common)


def random_boxes(count, spread=60.0, seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(-3, 4, (count, 2)))  # 0.05 to 55 pixels: slivers included
    centres = rng.uniform(0, spread, (count, 2))
    return np.concatenate([centres, sizes, rng.uniform(-4, 4, (count, 1))], 1)


def test_equals_shapely_on_random_pairs_and_slivers():
    a, b = (random_boxes(100_000, spread=15, seed=s) for s in (1, 2))
    ours = box_iou_rotated(torch.tensor(a), torch.tensor(b), aligned=True).numpy()
    np.testing.assert_allclose(ours, shapely_iou(a, b), atol=1e-6)
    assert (ours > 0.01).sum() > 5000


SQUARE = [50.0, 50, 20, 20, 0]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (SQUARE, SQUARE, 1.0),
        (SQUARE, [50, 50, 20, 20, math.pi / 2], 1.0),
        ([50, 50, 30, 10, 0.3], [50, 50, 10, 30, 0.3 + math.pi / 2], 1.0),
        (SQUARE, [70, 50, 20, 20, 0], 0.0),
        (SQUARE, [60, 50, 20, 20, 0], 1 / 3),
        (SQUARE, [50, 50, 10, 10, 0.7], 0.25),
        (SQUARE, [50, 50, 20, 20, math.pi / 4], (2 * math.sqrt(2) - 2) / (2 - (2 * math.sqrt(2) - 2))),
        (SQUARE, [50, 50, 0, 20, 0], 0.0),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], 0.0),
        (SQUARE, [1e6, 1e6, 20, 20, 0], 0.0),
        ([0, 0, 1e4, 1e-2, 0], [0, 0, 1e-2, 1e4, 0], 1e-4 / (200 - 1e-4)),
        ([1e5, 1e5, 20, 10, 1.0], [1e5, 1e5, 20, 10, 1.0], 1.0),
    ],
    ids=[
        "identical", "quarter turn", "swapped sides", "touching", "half overlap", "nested", "octagon",
        "no width", "points", "far apart", "crossed slivers", "far from origin",
    ],
)  # fmt: skip
@pytest.mark.parametrize("compute", [box_iou_rotated, lambda a, b: _iou_torch(a, b, False, False)])
def test_degenerate_pairs(a, b, expected, compute):
    value = compute(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    assert value.item() == pytest.approx(expected, abs=1e-9)


def test_iof_divides_by_the_first_area():
    small, large = torch.tensor([[50.0, 50, 10, 10, 0.4]]), torch.tensor([SQUARE])
    assert box_iou_rotated(small, large, mode="iof").item() == pytest.approx(1.0)
    assert box_iou_rotated(large, small, mode="iof").item() == pytest.approx(0.25)


def test_all_pairs_agree_with_aligned_pairs_and_keep_the_type():
    a, b = (torch.tensor(random_boxes(300, seed=s), dtype=torch.float32) for s in (3, 4))
    matrix = box_iou_rotated(a, b)
    assert matrix.dtype == torch.float32
    assert matrix.shape == (300, 300)
    torch.testing.assert_close(matrix.diagonal(), box_iou_rotated(a, b, aligned=True))


def test_torch_path_equals_compiled_path():
    a, b = (torch.tensor(random_boxes(200, seed=s)) for s in (5, 6))
    for foreground, mode in ((False, "iou"), (True, "iof")):
        torch.testing.assert_close(_iou_torch(a, b, foreground, False), box_iou_rotated(a, b, mode))


def test_torch_path_equals_compiled_path_in_small_portions(monkeypatch):
    monkeypatch.setattr(rotated_iou, "_PAIRS_AT_ONCE", 77)
    a, b = (torch.tensor(random_boxes(count, seed=count)) for count in (100, 60))
    torch.testing.assert_close(_iou_torch(a, b, False, False), box_iou_rotated(a, b))


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
def test_empty(rows, columns):
    a, b = torch.rand(rows, 5), torch.rand(columns, 5)
    assert box_iou_rotated(a, b).shape == (rows, columns)
    assert _iou_torch(a, b, False, False).shape == (rows, columns)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("compute", [box_iou_rotated, lambda a, b: box_iou_rotated(a, b[:2], aligned=True)])
def test_boxes_that_are_not_finite_overlap_nothing(bad, compute):
    boxes = torch.tensor([SQUARE, [50, bad, 20, 20, 0]])
    assert compute(boxes, boxes).flatten().tolist() in ([1, 0], [1, 0, 0, 0])


def test_rejects_wrong_shapes_and_modes():
    with pytest.raises(OperatorInputError, match=r"\(n, 5\)"):
        box_iou_rotated(torch.rand(2, 4), torch.rand(2, 5))
    with pytest.raises(OperatorInputError, match="aligned"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(3, 5), aligned=True)
    with pytest.raises(OperatorInputError, match="giou"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(3, 5), mode="giou")


def test_overlap_is_differentiable():
    a = torch.tensor(random_boxes(40, spread=6, seed=7)).requires_grad_()
    b = torch.tensor(random_boxes(40, spread=6, seed=8)).requires_grad_()
    assert (rotated_overlap(a, b) > 1e-9).sum() > 10
    assert torch.autograd.gradcheck(rotated_overlap, (a, b))


length = st.floats(0.5, 100)
box = st.tuples(st.floats(-50, 50), st.floats(-50, 50), length, length, st.floats(-7, 7))


@settings(deadline=None, max_examples=200)
@given(box, box)
def test_symmetric_bounded_and_equal_to_shapely(a, b):
    ta, tb = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    value = box_iou_rotated(ta, tb).item()
    assert 0 <= value <= 1
    assert value == pytest.approx(box_iou_rotated(tb, ta).item(), abs=1e-9)
    assert value == pytest.approx(shapely_iou([a], [b])[0], abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(box, box, st.floats(-7, 7), st.floats(-100, 100), st.floats(0.1, 10))
def test_unchanged_by_moving_turning_and_scaling_both(a, b, turn, shift, scale):
    boxes = torch.tensor([a, b], dtype=torch.float64)
    cos, sin = math.cos(turn), math.sin(turn)
    moved = boxes.clone()
    moved[:, 0] = (boxes[:, 0] * cos - boxes[:, 1] * sin) * scale + shift
    moved[:, 1] = (boxes[:, 0] * sin + boxes[:, 1] * cos) * scale - shift
    moved[:, 2:4] *= scale
    moved[:, 4] += turn
    torch.testing.assert_close(
        box_iou_rotated(moved, moved), box_iou_rotated(boxes, boxes), atol=1e-7, rtol=0
    )
