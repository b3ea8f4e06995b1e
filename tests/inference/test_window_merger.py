"""Window detections become scene detections: offsets, borders, duplicates."""

import numpy as np
import pytest
import shapely
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from rsfoundation.core.task import Classes, MergeOptions, Window
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.inference.grid import SceneGrid
from rsfoundation.tasks.detection import OrientedDetection

CLASSES = Classes(("ship", "plane"), ((255, 0, 0), (0, 255, 0)))
LEFT, RIGHT = Window(0, 0, 100, 100), Window(60, 0, 100, 100)  # share x in [60, 100)


def sample(*rows):
    """Make a prediction of rows ``(cx, cy, w, h, theta, score, label)`` in window pixels."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    result = DetDataSample()
    result.pred_instances = InstanceData(bboxes=table[:, :5], scores=table[:, 5], labels=table[:, 6].long())
    return result


def merge(*windows, score_threshold=0.1):
    merger = OrientedDetection().accumulator(100, 160, CLASSES, score_threshold)
    for window, found in windows:
        merger.add(window, found)
    return merger.result()


def test_boxes_move_into_scene_pixels():
    result = merge((RIGHT, sample((50, 30, 10, 4, 0.5, 0.9, 1))))
    np.testing.assert_allclose(result.boxes, [(110, 30, 10, 4, 0.5)], atol=1e-6)
    assert result.labels.tolist() == [1] and result.summary() == {"objects": 1, "plane": 1}


def test_object_seen_twice_is_kept_once_with_the_best_score():
    result = merge(
        (LEFT, sample((80, 50, 10, 4, 0.5, 0.7, 0))), (RIGHT, sample((20, 50, 10, 4, 0.5, 0.9, 0)))
    )
    assert result.scores.tolist() == pytest.approx([0.9])


def test_cut_piece_goes_even_when_its_score_is_better():
    # a ship over x in [80, 120): the left window sees [80, 100) of it, the right one all
    result = merge((LEFT, sample((90, 50, 20, 8, 0, 0.99, 0))), (RIGHT, sample((40, 50, 40, 8, 0, 0.6, 0))))
    np.testing.assert_allclose(result.boxes, [(100, 50, 40, 8, 0)], atol=1e-6)


def test_piece_of_another_class_stays():
    result = merge((LEFT, sample((90, 50, 20, 8, 0, 0.99, 1))), (RIGHT, sample((40, 50, 40, 8, 0, 0.6, 0))))
    assert sorted(result.labels.tolist()) == [0, 1]


def test_object_longer_than_the_overlap_survives_as_pieces():
    result = merge((LEFT, sample((60, 50, 80, 8, 0, 0.9, 0))), (RIGHT, sample((40, 50, 80, 8, 0, 0.8, 0))))
    assert len(result.boxes) == 1


def test_scene_border_cuts_nothing():
    neighbours = (2, 50, 8, 4, 0, 0.9, 0), (6, 50, 14, 4, 0, 0.5, 0)
    result = merge((LEFT, sample(*neighbours)))
    assert result.scores.tolist() == pytest.approx([0.9])


def test_low_scores_are_not_taken_and_order_is_by_score():
    rows = [(20, 20, 10, 4, 0, 0.2, 0), (50, 20, 10, 4, 0, 0.8, 0), (20, 60, 10, 4, 0, 0.05, 0)]
    assert merge((LEFT, sample(*rows))).scores.tolist() == pytest.approx([0.8, 0.2])


def test_nothing_found():
    for result in (merge(), merge((LEFT, sample()), (RIGHT, sample()))):
        assert result.boxes.shape == (0, 5) and result.summary() == {"objects": 0}


def test_merge_iou_is_the_task_s():
    merger = OrientedDetection(merge_iou=0.9).accumulator(100, 100, CLASSES, 0.1)
    merger.add(LEFT, sample((50, 50, 20, 10, 0, 0.9, 0), (52, 50, 20, 10, 0, 0.8, 0)))
    assert len(merger.result().boxes) == 2


def test_class_agnostic_suppression_compares_classes():
    rows = [(30 + 30 * i, 40, 20, 10, 0.3, 0.9 - 0.01 * i, i % 2) for i in range(2)]
    twins = [(x, y, w, h, t, score - 0.2, 1 - label) for x, y, w, h, t, score, label in rows]
    for agnostic, count in ((False, 4), (True, 2)):
        options = MergeOptions(class_agnostic=agnostic)
        merger = OrientedDetection().accumulator(100, 160, CLASSES, 0.1, options)
        merger.add(LEFT, sample(*rows, *twins))
        assert len(merger.result().scores) == count


def test_a_piece_goes_where_the_whole_object_is_on_a_border_of_cores():
    """Two windows see the object whole, with its centre on the other's side; a third one sees its end."""
    grid = SceneGrid.cover(160, 160, 100, 40)  # windows at 0 and 60, cores meet at 80
    merger = OrientedDetection().accumulator(160, 160, CLASSES, 0.1, MergeOptions(False, grid))
    below = 97 - 60 + 8  # of windows at row 60, the object is in rows 97 to 113
    merger.add(Window(0, 0, 100, 100), sample((79.5, 97.5, 8, 3, 0, 0.9, 0)))  # rows 96 to 99: cut
    merger.add(Window(0, 60, 100, 100), sample((79.6, below, 8, 16, 0, 0.9, 0)))
    merger.add(Window(60, 60, 100, 100), sample((19.4, below, 8, 16, 0, 0.8, 0)))
    result = merger.result()
    np.testing.assert_allclose(result.scores, [0.9], atol=1e-6)
    assert result.boxes[0, 2:4].max() == pytest.approx(16)


def exhaustive_nms(boxes, scores, labels, threshold):
    """Greedy suppression over all pairs of polygons, as the definition says."""
    shapes = shapely.polygons(rbox_to_quad(boxes))
    areas, kept = shapely.area(shapes), []
    for place in np.argsort(-scores, kind="stable"):
        others = np.array(kept, dtype=int)
        others = others[labels[others] == labels[place]] if len(others) else others
        common = shapely.area(shapely.intersection(shapes[place], shapes[others]))
        if not (common / (areas[place] + areas[others] - common) >= threshold).any():
            kept.append(place)
    return kept


@pytest.mark.slow
def test_of_5000_boxes_those_of_the_exhaustive_suppression_stay():
    rng = np.random.default_rng(5)
    low, high = (0, 0, 8, 5, -1.57), (400, 400, 60, 20, 1.57)
    boxes = rng.uniform(low, high, (5000, 5)).astype(np.float32).astype(np.float64)
    scores, labels = rng.permutation(5000) / 5000 * 0.8 + 0.15, rng.integers(0, 2, 5000)
    merger = OrientedDetection(merge_iou=0.3).accumulator(1000, 1000, CLASSES, 0.1)
    found = DetDataSample()
    found.pred_instances = InstanceData(
        bboxes=torch.from_numpy(boxes), scores=torch.from_numpy(scores), labels=torch.from_numpy(labels)
    )
    merger.add(Window(0, 0, 1000, 1000), found)
    expected = exhaustive_nms(boxes, scores, labels, 0.3)
    assert 1000 < len(expected) < 4000
    assert merger.result().scores.tolist() == scores[expected].tolist()


@pytest.mark.parametrize(
    ("test_cfg", "expected"),
    [
        (dict(rcnn=dict(nms=dict(type="nms_rotated", iou_threshold=0.1, class_agnostic=True))), True),
        (dict(nms=dict(type="nms_rotated", iou_threshold=0.1, class_agnostic=True)), True),
        (dict(rcnn=dict(nms=dict(type="nms_rotated", iou_threshold=0.1))), False),
    ],
)
def test_evaluation_submission_and_tta_follow_the_model(test_cfg, expected, tmp_path):
    from mmengine.config import Config

    from rsfoundation.core.task import RunRequest

    def resolved(**request):
        pipeline = [dict(type="mmdet.Resize", scale=(64, 64)), dict(type="mmdet.PackDetInputs")]
        cfg = Config(
            dict(
                model=dict(test_cfg=test_cfg),
                work_dir=str(tmp_path),
                test_dataloader=dict(dataset=dict(type="x", pipeline=pipeline)),
                test_evaluator=dict(type="rsfoundation.DOTAMetric", full_images=True),
            )
        )
        OrientedDetection().prepare_config(cfg, RunRequest(**request))
        return cfg

    assert resolved(stage="test").test_evaluator.get("class_agnostic", False) is expected
    submission = resolved(stage="test", format_only=True)
    assert submission.test_evaluator.class_agnostic is expected
    assert resolved(stage="predict", tta=True).tta_model.class_agnostic is expected


def test_patches_merge_across_classes():
    from rsfoundation.geometry.boxes import suppress

    boxes = np.array([(20.0, 20, 10, 5, 0), (20.5, 20, 10, 5, 0)])
    for agnostic, count in ((False, 2), (True, 1)):
        kept = suppress(boxes, np.array([0.9, 0.8]), np.array([0, 1]), 0.1, agnostic)
        assert len(kept) == count
