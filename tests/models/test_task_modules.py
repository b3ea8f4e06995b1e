"""Every coder of the published detectors against formulas in double precision, and by hand."""

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
from mmrotate.models.task_modules.coders import MidpointOffsetCoder as UpstreamCoder
from mmrotate.registry import MODELS, TASK_UTILS
from mmrotate.structures.bbox import RotatedBoxes
from oriented_heads import BASE, narrow, sample
from plain_detection import corners, decode_rotated, encode_rotated, same_rectangle, upright

from rsfoundation.geometry.boxes import normalise, rbox_to_quad
from rsfoundation.models.task_modules import long_side_first

HALF = math.pi / 2


def of(head, *path):
    """The coder of a shipped head file, and its config."""
    node = Config.fromfile(BASE / "heads" / f"{head}.py").model
    for key in path:
        node = node[key]
    return TASK_UTILS.build({**node, "_scope_": "mmrotate"}), node


def draw(count, version, seed=0):
    """Sources and targets that overlap as an anchor and its object do."""
    rng = np.random.default_rng(seed)
    source = np.stack(
        [*rng.uniform(20, 200, (2, count)), *rng.uniform(8, 60, (2, count)), rng.uniform(-HALF, HALF, count)],
        1,
    )
    target = source + np.stack(
        [*rng.uniform(-6, 6, (2, count)), *rng.uniform(-4, 30, (2, count)), rng.uniform(-HALF, HALF, count)],
        1,
    )
    return normalise(source, "le90"), normalise(target, version)


def rotated(boxes):
    return RotatedBoxes(torch.tensor(boxes, dtype=torch.float32))


ROTATED = {
    "oriented_rcnn": (("oriented_rcnn", "roi_head", "bbox_head", "bbox_coder"), "le90", 1.0, True, True),
    "roi_transformer": (
        ("roi_transformer", "roi_head", "bbox_head", 1, "bbox_coder"),
        "le90",
        1.0,
        True,
        True,
    ),
    "s2anet": (("s2anet", "bbox_head_init", "bbox_coder"), "le135", math.pi, False, True),
    "rotated_retinanet": (("rotated_retinanet", "bbox_head", "bbox_coder"), "le90", 1.0, True, True),
}


@pytest.mark.parametrize("name", ROTATED)
def test_from_rotated_to_rotated(name):
    path, version, divisor, swap, project = ROTATED[name]
    coder, cfg = of(*path)
    source, target = draw(200, version)
    if name == "s2anet":  # no swap of sides: an object far turned from its source ends up half a turn on
        source[:, 4] = 0
    found = coder.encode(rotated(source), rotated(target)).double().numpy()
    pairs = zip(source, target, strict=True)
    expected = np.array([encode_rotated(a, b, cfg.target_stds, swap, project, divisor) for a, b in pairs])
    if name == "s2anet":  # le135 keeps turns in [-pi/4, 3 pi/4)
        expected[:, 4] = (expected[:, 4] * math.pi + math.pi / 4) % math.pi / math.pi - 0.25
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)

    deltas = np.random.default_rng(1).normal(0, 0.3, (200, 5)) / np.array(cfg.target_stds)
    boxes = coder.decode(rotated(source), torch.tensor(deltas, dtype=torch.float32))
    boxes = boxes.tensor if isinstance(boxes, RotatedBoxes) else boxes
    for row, box in enumerate(boxes.double().numpy()):
        wanted = decode_rotated(source[row], deltas[row], cfg.target_stds, project, divisor)
        assert same_rectangle(corners(box), corners(wanted), 2e-3)
    back = coder.decode(rotated(source), torch.tensor(expected, dtype=torch.float32))
    back = back.tensor if isinstance(back, RotatedBoxes) else back
    assert all(same_rectangle(corners(a), corners(b), 2e-2) for a, b in zip(back, target, strict=True))


def test_opencv_angles_by_hand_and_by_formula():
    coder, cfg = of("r3det", "bbox_head_init", "bbox_coder")
    anchor = [[0.0, 0.0, 10.0, 10.0, 0.0]]
    cases = {  # object -> sides and angle in (0, pi/2]
        (0, 0, 20, 10, 0.3): (20, 10, 0.3),
        (0, 0, 20, 10, -0.3): (10, 20, HALF - 0.3),
        (0, 0, 20, 10, 0.0): (10, 20, HALF),  # upright boxes are at 90 degrees, as OpenCV has them
        (0, 0, 10, 20, HALF): (10, 20, HALF),
        (0, 0, 20, 10, HALF): (20, 10, HALF),
        (0, 0, 20, 10, HALF + 0.2): (10, 20, 0.2),
    }
    for box, (w, h, angle) in cases.items():
        found = coder.encode(rotated(anchor), rotated([box]))[0].tolist()
        assert found == pytest.approx([0, 0, math.log(w / 10), math.log(h / 10), angle], abs=1e-5)
    source, target = draw(200, "oc")
    source[:, 4] = 0
    found = coder.encode(rotated(source), rotated(target)).double().numpy()
    turned = target.copy()  # 1.x has [-pi/2, 0): name the other side width
    turned[:, 2:4] = turned[:, 3:1:-1]
    turned[:, 4] += HALF
    pairs = zip(source, turned, strict=True)
    expected = [encode_rotated(a, b, cfg.target_stds, False, False) for a, b in pairs]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    back = coder.decode(rotated(source), torch.tensor(found, dtype=torch.float32)).double().numpy()
    assert ((back[:, 4] > 0) & (back[:, 4] <= HALF + 1e-4)).all()
    assert all(same_rectangle(corners(a), corners(b), 2e-2) for a, b in zip(back, target, strict=True))


def test_from_upright_to_upright():
    """RoI Transformer's proposals: the upright rectangle around the object."""
    coder, _ = of("roi_transformer", "rpn_head", "bbox_coder")
    source, target = draw(100, "le90")
    source = np.array([upright(box) for box in source])
    found = coder.encode(HorizontalBoxes(torch.tensor(source, dtype=torch.float32)), rotated(target))
    for row, box in enumerate(target):
        (x1, y1, x2, y2), (a1, b1, a2, b2) = upright(box), source[row]
        expected = [
            ((x1 + x2) - (a1 + a2)) / 2 / (a2 - a1),
            ((y1 + y2) - (b1 + b2)) / 2 / (b2 - b1),
            math.log((x2 - x1) / (a2 - a1)),
            math.log((y2 - y1) / (b2 - b1)),
        ]
        assert found[row].tolist() == pytest.approx(expected, rel=2e-4, abs=2e-4)


def test_from_upright_to_rotated():
    """RoI Transformer's first stage: half turns of pi are counted in parts of 2 pi, sides may swap."""
    coder, cfg = of("roi_transformer", "roi_head", "bbox_head", 0, "bbox_coder")
    source, target = draw(100, "le90")
    source = np.array([upright(box) for box in source])
    found = coder.encode(HorizontalBoxes(torch.tensor(source, dtype=torch.float32)), rotated(target))
    as_rotated = np.stack(
        [
            (source[:, 0] + source[:, 2]) / 2,
            (source[:, 1] + source[:, 3]) / 2,
            source[:, 2] - source[:, 0],
            source[:, 3] - source[:, 1],
            np.zeros(100),
        ],
        axis=1,
    )
    expected = np.array(
        [
            encode_rotated(a, b, cfg.target_stds, True, False, 2 * math.pi)
            for a, b in zip(as_rotated, target, strict=True)
        ]
    )
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=2e-4, atol=2e-4)
    back = coder.decode(HorizontalBoxes(torch.tensor(source, dtype=torch.float32)), found).tensor
    assert all(same_rectangle(corners(a), corners(b), 2e-2) for a, b in zip(back, target, strict=True))


def midpoints(box):
    """The six numbers of Oriented R-CNN: upright rectangle, x of the top corner, y of the right one."""
    points, (x1, y1, x2, y2) = corners(box), upright(box)
    top, right = points[points[:, 1].argmin()], points[points[:, 0].argmax()]
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, top[0], right[1]


def test_midpoint_offsets():
    coder, _ = of("oriented_rcnn", "rpn_head", "bbox_coder")
    rng = np.random.default_rng(3)
    source = np.array([upright(box) for box in draw(100, "le90")[0]])
    target = draw(100, "le90", 4)[1]
    target[:, 2:4] += 4  # sides of a pixel have corners that look level
    target[:, 4] = rng.choice([-1, 1], 100) * rng.uniform(0.15, HALF - 0.15, 100)
    anchors = HorizontalBoxes(torch.tensor(source, dtype=torch.float32))
    found = coder.encode(anchors, rotated(target)).double().numpy()
    for row, box in enumerate(target):
        x, y, w, h, top, right = midpoints(box)
        x1, y1, x2, y2 = source[row]
        expected = [
            (x - (x1 + x2) / 2) / (x2 - x1),
            (y - (y1 + y2) / 2) / (y2 - y1),
            math.log(w / (x2 - x1)),
            math.log(h / (y2 - y1)),
            (top - x) / w / 0.5,
            (right - y) / h / 0.5,
        ]
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-3)
    back = coder.decode(anchors, torch.tensor(found, dtype=torch.float32)).tensor.double().numpy()
    assert all(same_rectangle(corners(a), corners(b), 0.05) for a, b in zip(back, target, strict=True))


def test_midpoints_that_make_no_rectangle_are_stretched_along_their_diagonals():
    """A parallelogram becomes the rectangle on both diagonals at the length of the longer one."""
    coder, _ = of("oriented_rcnn", "rpn_head", "bbox_coder")
    anchors = HorizontalBoxes(torch.tensor([[0.0, 0, 40, 20]]))
    box = coder.decode(anchors, torch.tensor([[0.0, 0, 0, 0, 0.4, 0.3]])).tensor[0].double().numpy()
    # top corner 0.2 * 40 right of the middle, right corner 0.15 * 20 below it
    first, second = np.array([8.0, -10.0]), np.array([20.0, 3.0])
    length = max(np.linalg.norm(first), np.linalg.norm(second))
    first, second = (v / np.linalg.norm(v) * length for v in (first, second))
    wanted = np.array([20.0, 10.0]) + np.array([first, second, -first, -second])
    assert same_rectangle(corners(box), wanted, 1e-2)


def test_midpoints_are_decoded_as_upstream_decodes_them():
    """Upstream fits OpenCV's rectangle around each box; ours is worked out, in any number format."""
    coder, cfg = of("oriented_rcnn", "rpn_head", "bbox_coder")
    theirs = UpstreamCoder(**{key: value for key, value in cfg.items() if key != "type"})
    rng = np.random.default_rng(5)
    low = rng.uniform(0, 800, (3000, 2))
    anchors = torch.tensor(
        np.concatenate([low, low + rng.uniform(4, 300, (3000, 2))], 1), dtype=torch.float32
    )
    deltas = torch.tensor(rng.normal(0, 0.8, (3000, 6)), dtype=torch.float32)
    deltas[:50, 2:4] *= 20  # beyond what sides may change by
    deltas[50:100, 4:] = 0
    deltas[100:150, 4:] = 9
    ours, expected = (one.decode(HorizontalBoxes(anchors), deltas).tensor.double() for one in (coder, theirs))
    size = expected[:, 2:4].max(1).values
    for box, other, scale in zip(ours.numpy(), expected.numpy(), size.tolist(), strict=True):
        assert same_rectangle(corners(box), corners(other), 1e-4 * max(scale, 100))
    assert ((ours[:, 4] >= -HALF - 1e-6) & (ours[:, 4] < HALF)).all() and (ours[:, 2] >= ours[:, 3]).all()
    half = coder.decode(HorizontalBoxes(anchors), deltas.bfloat16()).tensor
    rounded = coder.decode(HorizontalBoxes(anchors), deltas.bfloat16().float()).tensor
    assert half.dtype == torch.float32 and torch.equal(half, rounded)
    assert coder.decode(HorizontalBoxes(anchors[:0]), deltas[:0]).tensor.shape == (0, 5)


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
