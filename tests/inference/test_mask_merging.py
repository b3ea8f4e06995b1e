import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from rsfoundation.core.task import Classes, Window
from rsfoundation.inference.instances import MaskMerger

CLASSES = Classes(("ship", "tank"), ((255, 0, 0), (0, 255, 0)))


def scene(*rectangles, height=64, width=100):
    """Boolean masks of rectangles (left, top, right, bottom)."""
    masks = np.zeros((len(rectangles), height, width), bool)
    for mask, (left, top, right, bottom) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def predict(window, masks, labels=None, scores=None):
    """What a perfect network says of one window of the scene."""
    rows, columns = (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )
    seen = masks[:, rows, columns]
    there = seen.any(axis=(1, 2))
    labels = np.zeros(len(masks), int) if labels is None else np.asarray(labels)
    scores = np.full(len(masks), 0.9) if scores is None else np.asarray(scores)
    return DetDataSample(
        pred_instances=InstanceData(
            masks=torch.from_numpy(seen[there]),
            labels=torch.from_numpy(labels[there]),
            scores=torch.from_numpy(scores[there]).float(),
        )
    )


LEFT, RIGHT = Window(0, 0, 60, 64), Window(40, 0, 60, 64)


def merge(masks, windows=(LEFT, RIGHT), threshold=0.3, **options):
    merger = MaskMerger(64, 100, CLASSES, threshold)
    for window in windows:
        merger.add(window, predict(window, masks, **options))
    return merger.result()


def spread(mask):
    full = np.zeros((64, 100), bool)
    full[mask.top : mask.bottom, mask.left : mask.right] = mask.bitmap
    return full


@pytest.mark.parametrize(
    "rectangle",
    [
        (5, 5, 20, 20),  # in the left window only
        (45, 5, 55, 20),  # whole in both
        (35, 5, 50, 20),  # cut in the right one
        (55, 5, 70, 20),  # cut in the left one
        (10, 30, 95, 40),  # cut in both
    ],
)
def test_an_object_at_a_seam_comes_out_once_and_whole(rectangle):
    masks = scene(rectangle)
    result = merge(masks)
    assert len(result.masks) == 1
    assert np.array_equal(spread(result.masks[0]), masks[0])


def test_neighbours_stay_apart():
    masks = scene((42, 5, 50, 20), (50, 5, 58, 20), (42, 22, 58, 40))
    assert len(merge(masks).masks) == 3


def test_classes_do_not_mix():
    masks = scene((45, 5, 55, 20), (45, 5, 55, 20))
    result = merge(masks, labels=[0, 1])
    assert sorted(result.labels.tolist()) == [0, 1]
    assert result.summary() == {"objects": 2, "ship": 1, "tank": 1}


def test_the_better_of_two_whole_views_gives_the_mask():
    merger = MaskMerger(64, 100, CLASSES, 0.3)
    merger.add(LEFT, predict(LEFT, scene((44, 5, 56, 20)), scores=[0.5]))
    merger.add(RIGHT, predict(RIGHT, scene((45, 5, 55, 20)), scores=[0.8]))
    (mask,) = merger.result().masks
    assert mask.box == (45, 5, 10, 15)


def test_an_object_over_three_windows_is_one():
    windows = [Window(left, 0, 40, 64) for left in (0, 30, 60)]
    masks = scene((5, 5, 95, 15))
    result = merge(masks, windows)
    assert len(result.masks) == 1
    assert np.array_equal(spread(result.masks[0]), masks[0])


def test_low_scores_and_empty_masks_are_left_out():
    assert len(merge(scene((5, 5, 20, 20), (30, 5, 35, 20)), scores=[0.2, 0.4]).masks) == 1
    merger = MaskMerger(64, 100, CLASSES, 0.3)
    empty = InstanceData(
        masks=torch.zeros(1, 64, 60, dtype=torch.bool), labels=torch.tensor([0]), scores=torch.tensor([0.9])
    )
    merger.add(LEFT, DetDataSample(pred_instances=empty))
    assert merger.result().masks == ()


def test_nothing_found_is_an_empty_result():
    result = merge(np.zeros((0, 64, 100), bool), labels=[], scores=[])
    assert result.masks == ()
    assert result.summary() == {"objects": 0}


def test_best_score_comes_first_and_order_of_windows_does_not_matter():
    masks = scene((5, 5, 20, 20), (45, 5, 55, 20), (10, 30, 95, 40))
    scores = [0.4, 0.9, 0.6]
    there, back = merge(masks, scores=scores), merge(masks, (RIGHT, LEFT), scores=scores)
    assert there.scores == pytest.approx([0.9, 0.6, 0.4])
    assert [mask.box for mask in there.masks] == [mask.box for mask in back.masks]
