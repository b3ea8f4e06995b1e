from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.evaluation.segmentation_metric import SegmentationMetric, boundary_f1, count_boundaries

NAMES = ("road", "roof", "tree")


def samples(count=3, classes=3):
    random = np.random.default_rng(0)
    drawn = torch.from_numpy(random.integers(0, classes, (count, 2, 1, 12, 9)))
    drawn[:, 0, 0, 0] = 255
    return [dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=found)) for truth, found in drawn]


def evaluate(metric, given, names=NAMES):
    metric.dataset_meta = dict(classes=names)
    metric.process({}, given)
    return metric.evaluate(len(given))


def test_averages_equal_mmseg():
    MMLogger.get_instance("segmentation-metric-test")
    theirs = evaluate(IoUMetric(iou_metrics=["mIoU", "mFscore"]), samples())
    mine = evaluate(SegmentationMetric(), samples())
    for key, other in {"mIoU": "mIoU", "mF1": "mFscore", "OA": "aAcc"}.items():
        assert mine[key] == pytest.approx(theirs[other] / 100, abs=6e-5)  # mmseg rounds


def test_classes_are_reported_by_name_and_average_to_the_mean():
    found = evaluate(SegmentationMetric(), samples())
    assert np.mean([found[f"{name}/IoU"] for name in NAMES]) == pytest.approx(found["mIoU"])
    assert next(iter(found)) == "mIoU"


def test_absent_class_does_not_pull_the_mean_down():
    label = torch.zeros(1, 4, 4, dtype=torch.long)
    found = evaluate(SegmentationMetric(), [dict(gt_sem_seg=dict(data=label), pred_sem_seg=dict(data=label))])
    assert found["mIoU"] == 1.0 and np.isnan(found["roof/IoU"])


def one(truth, prediction):
    maps = {"gt_sem_seg": truth, "pred_sem_seg": prediction}
    return {name: dict(data=torch.tensor(np.asarray(rows))[None]) for name, rows in maps.items()}


ISPRS = ("impervious_surface", "building", "low_vegetation", "tree", "car", "clutter")


def isprs_maps():
    """Every error is a prediction of clutter, as a six-class model makes them."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, 4000)
    prediction = np.where(random.random(4000) < 0.8, truth, 5)
    return truth.reshape(40, 100), np.where(truth == 4, 4, prediction).reshape(40, 100)


def by_hand(truth, prediction, classes):
    """Return IoU and F1 of each class by set arithmetic over the given pixels."""
    sets = [(truth == label, prediction == label) for label in classes]
    iou = [(a & b).sum() / (a | b).sum() for a, b in sets]
    return iou, [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in sets]


def test_a_prediction_beyond_the_classes_counts_in_no_other_cell(caplog):
    truth, prediction = isprs_maps()
    five = np.where(truth == 5, 255, truth)
    kept = five != 255
    iou, _ = by_hand(five[kept], prediction[kept], range(5))
    with logged(caplog):
        found = evaluate(SegmentationMetric(), [one(five, prediction)], ISPRS[:5])
    assert found["mIoU"] == pytest.approx(np.mean(iou)) == pytest.approx(0.8439, abs=1e-4)
    assert [found[f"{name}/IoU"] for name in ISPRS[:5]] == pytest.approx(iou)
    assert found["OA"] == pytest.approx((five == prediction)[kept].mean())
    assert "more classes than the data set" in caplog.text
    prediction[np.unravel_index((truth == 4).argmax(), truth.shape)] = 5
    iou, _ = by_hand(five[kept], prediction[kept], range(5))
    assert evaluate(SegmentationMetric(), [one(five, prediction)], ISPRS[:5])["mIoU"] == pytest.approx(
        np.mean(iou)
    )


@contextmanager
def logged(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_means_without_clutter_by_both_rules_are_named():
    random = np.random.default_rng(1)
    truth, prediction = random.integers(0, 6, (2, 30, 40))
    prediction = np.where(random.random(truth.shape) < 0.7, truth, prediction)
    maps = [one(truth, prediction)]
    keep = evaluate(SegmentationMetric(clutter="keep"), maps, ISPRS)
    iou, f1 = by_hand(truth, prediction, range(5))
    assert keep["mIoU/clutter_kept"] == pytest.approx(np.mean(iou))
    assert keep["mF1/clutter_kept"] == pytest.approx(np.mean(f1))
    assert keep["OA/clutter_kept"] == keep["OA"] == pytest.approx((truth == prediction).mean())
    ignore = evaluate(SegmentationMetric(clutter="ignore"), maps, ISPRS)
    counted = truth != 5
    iou, f1 = by_hand(truth[counted], prediction[counted], range(5))
    assert ignore["mIoU/clutter_ignored"] == pytest.approx(np.mean(iou)) != keep["mIoU/clutter_kept"]
    assert ignore["mF1/clutter_ignored"] == pytest.approx(np.mean(f1))
    assert ignore["OA/clutter_ignored"] == pytest.approx((truth == prediction)[counted].mean())
    assert ignore["mIoU"] == keep["mIoU"], "the means over all classes stay as they are"
    assert "clutter_kept" not in str(ignore)


def test_the_mean_over_chosen_classes_of_a_model_trained_with_all():
    truth, prediction = isprs_maps()
    metric = SegmentationMetric(subsets=dict(objects=ISPRS[:5], built=("building", "car")))
    found = evaluate(metric, [one(truth, prediction)], ISPRS)
    iou, f1 = by_hand(truth, prediction, range(6))
    assert found["mIoU/objects"] == pytest.approx(np.mean(iou[:5]))
    assert found["mF1/built"] == pytest.approx((f1[1] + f1[4]) / 2)
    with pytest.raises(ConfigError, match="no class 'water'"):
        evaluate(SegmentationMetric(subsets=dict(wet=("water",))), samples())


@pytest.mark.parametrize("options", [dict(clutter="keep"), dict(subsets=dict(wet=("clutter",)))])
def test_classes_of_the_options_are_looked_up_before_the_first_step(options):
    metric = SegmentationMetric(**options)
    metric.dataset_meta = dict(classes=(*NAMES, "clutter"))
    with pytest.raises(ConfigError, match="no class 'clutter', only road") as raised:
        metric.dataset_meta = dict(classes=NAMES)  # MMEngine sets it when the loop is built
    assert f"leave {next(iter(options))} out" in raised.value.fix


def test_the_protocol_is_logged_with_the_table(caplog):
    with logged(caplog):
        evaluate(SegmentationMetric(clutter="ignore", boundary_tolerance=2), [one(*isprs_maps())], ISPRS)
    assert "clutter ignored for */clutter_ignored" in caplog.text and "boundaries within 2 px" in caplog.text
    assert "low_vegetation" in caplog.text
    with pytest.raises(ConfigError, match="there is no clutter 'drop'"):
        SegmentationMetric(clutter="drop")


def test_labels_of_no_class_name_the_file():
    bad = {**one([[0, 7]], [[0, 0]]), "seg_map_path": "masks/3.png"}
    with pytest.raises(DataError, match="7 \\(1 pixels\\)") as caught:
        evaluate(SegmentationMetric(), [bad])
    assert caught.value.where == "masks/3.png"


def test_kappa_and_mean_precision_and_recall():
    found = evaluate(SegmentationMetric(), samples())
    for name in ("Precision", "Recall"):
        assert found[f"m{name}"] == pytest.approx(np.mean([found[f"{one}/{name}"] for one in NAMES]))
    same = torch.arange(3).reshape(1, 1, 3)
    perfect = evaluate(SegmentationMetric(), [dict(gt_sem_seg=dict(data=same), pred_sem_seg=dict(data=same))])
    assert perfect["Kappa"] == 1.0


def test_boundary_f1_by_hand():
    truth = np.zeros((20, 20), int)
    truth[:, 10:] = 1
    shifted = np.roll(truth, 3, axis=1)
    shifted[:, :3] = 0
    exact = evaluate(SegmentationMetric(boundary_tolerance=0), [one(truth, truth)], ("a", "b"))
    assert exact["mBF1"] == exact["a/BF1"] == 1.0
    near = evaluate(SegmentationMetric(boundary_tolerance=3), [one(truth, shifted)], ("a", "b"))
    far = evaluate(SegmentationMetric(boundary_tolerance=2.9), [one(truth, shifted)], ("a", "b"))
    assert near["mBF1"] == 1.0 and far["mBF1"] == 0.0
    # where half of the true edge is ignored, that half of the predicted one does not count
    truth[:10, 8:14] = 255
    half = count_boundaries(truth, shifted, 2, 3)
    assert half[0].tolist() == [10, 10, 10, 10] and half[1].tolist() == [10, 10, 10, 10]


def test_boundary_counts_equal_all_pairs():
    random = np.random.default_rng(4)
    truth, prediction = (
        cv2.resize(
            random.integers(0, 3, (2, 6, 5)).astype(np.uint8).transpose(1, 2, 0), (40, 30), interpolation=0
        )
        .transpose(2, 0, 1)
        .astype(int)
    )
    truth[3:6, 5:20] = 255
    found = count_boundaries(truth, prediction, 4, 2.5)
    for label in range(3):
        edges = []
        for labels in (prediction, truth):
            inside = (labels == label) & (truth != 255)
            places = []
            for y, x in zip(*np.nonzero(inside), strict=True):
                near = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
                near = [(a, b) for a, b in near if 0 <= a < 30 and 0 <= b < 40 and truth[a, b] != 255]
                if any(labels[place] != label for place in near):
                    places.append((y, x))
            edges.append(np.array(places, float).reshape(-1, 2))
        away = np.linalg.norm(edges[0][:, None] - edges[1][None], axis=2)
        expected = [
            (away.min(axis=1) <= 2.5).sum(),
            len(edges[0]),
            (away.min(axis=0) <= 2.5).sum(),
            len(edges[1]),
        ]
        assert found[label].tolist() == expected
    assert not found[3].any()
    assert np.isnan(boundary_f1(found)[3]) and boundary_f1(np.array([[0, 4, 0, 0]])) == [0.0]
