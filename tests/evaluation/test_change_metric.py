import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError
from rsfoundation.evaluation.change_metric import ChangeMetric, SemanticChangeMetric, separated_kappa

NAMES = ("unchanged", "changed")


def sample(truth, prediction):
    return dict(
        gt_sem_seg=dict(data=torch.tensor([truth])), pred_sem_seg=dict(data=torch.tensor([prediction]))
    )


def evaluate(samples, names=NAMES, **kwargs):
    metric = ChangeMetric(**kwargs)
    metric.dataset_meta = dict(classes=names)
    for one in samples:
        metric.process({}, [one])
    return metric.evaluate(len(samples))


def test_figures_are_those_of_the_changed_class_over_all_pixels():
    found = evaluate(
        [sample([[1, 1, 1, 0]], [[1, 1, 0, 1]]), sample([[0, 0, 0, 255]], [[0, 0, 0, 1]])]
    )  # hits 2, misses 1, false alarms 1, right rejections 3; one pixel ignored
    assert found["changed/Precision"] == pytest.approx(2 / 3)
    assert found["changed/Recall"] == pytest.approx(2 / 3)
    assert found["changed/F1"] == pytest.approx(2 / 3)
    assert found["changed/IoU"] == pytest.approx(2 / 4)
    assert found["OA"] == pytest.approx(5 / 7)
    chance = (3 * 3 + 4 * 4) / 49
    assert found["Kappa"] == pytest.approx((5 / 7 - chance) / (1 - chance))


def test_f1_and_iou_determine_each_other():
    random = np.random.default_rng(0)
    found = evaluate([sample(*random.integers(0, 2, (2, 8, 8)).tolist()) for _ in range(3)])
    assert found["changed/F1"] == pytest.approx(2 * found["changed/IoU"] / (1 + found["changed/IoU"]))


def test_the_first_figure_is_the_one_checkpoints_are_kept_by():
    assert next(iter(evaluate([sample([[1]], [[1]])]))) == "changed/F1"


def test_the_class_is_found_by_name():
    found = evaluate([sample([[0, 1]], [[0, 0]])], names=("damaged", "intact"), class_name="damaged")
    assert found["damaged/Precision"] == 0.5 and found["damaged/Recall"] == 1.0


def test_unknown_class_names_the_known_ones():
    with pytest.raises(ConfigError, match="only unchanged, changed"):
        evaluate([sample([[0]], [[0]])], class_name="damaged")


def test_repeated_images_of_a_distributed_sampler_are_dropped():
    metric = ChangeMetric()
    evaluator = Evaluator(metric)
    evaluator.dataset_meta = dict(classes=NAMES)
    metric.process({}, [sample([[1, 1]], [[1, 1]]), sample([[1, 1]], [[0, 0]])])
    assert evaluator.evaluate(1)["changed/Recall"] == 1.0


def f1(pairs):
    truth, prediction = (np.concatenate([np.ravel(pair[place]) for pair in pairs]) for place in (0, 1))
    return 2 * ((truth == 1) & (prediction == 1)).sum() / ((truth == 1).sum() + (prediction == 1).sum())


def test_means_over_images_and_batches_have_names_of_their_own():
    random = np.random.default_rng(3)
    pairs = [random.integers(0, 2, (2, 5, 7)) for _ in range(5)]
    samples = [sample(*pair.tolist()) for pair in pairs]
    found = evaluate(samples, variants=("per_image", "per_batch"), batch_size=2)
    assert found["changed/F1"] == pytest.approx(f1(pairs))
    assert found["changed/F1_per_image"] == pytest.approx(np.mean([f1([pair]) for pair in pairs]))
    groups = [pairs[:2], pairs[2:4], pairs[4:]]
    assert found["changed/F1_per_batch2"] == pytest.approx(np.mean([f1(group) for group in groups]))
    assert len({round(value, 9) for name, value in found.items() if "/F1" in name}) == 3
    assert not [name for name in evaluate(samples) if "_per_" in name]
    with pytest.raises(ConfigError, match="per_image, per_batch"):
        ChangeMetric(variants=("per_epoch",))


def test_images_where_nothing_changed_leave_the_mean_over_images():
    found = evaluate(
        [sample([[0, 0]], [[0, 0]]), sample([[1, 0]], [[1, 0]]), sample([[0, 0]], [[1, 0]])],
        variants=("per_image",),
    )
    assert found["changed/F1_per_image"] == 0.5, "1 and 0; the first has no F1"


@contextmanager
def logged(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


@pytest.mark.parametrize(("value", "word"), [(0, "no pixel"), (1, "every pixel")])
def test_a_constant_prediction_is_warned_of(caplog, value, word):
    with logged(caplog):
        evaluate([sample([[0, 1, 1, 255]], [[value] * 4])])
    assert word in caplog.text and "66.67 %" in caplog.text
    caplog.clear()
    with logged(caplog):
        evaluate([sample([[0, 1, 1, 255]], [[0, 0, 1, value]])])
    assert "pixel is predicted" not in caplog.text


def test_a_prediction_beyond_the_classes_is_no_change():
    found = evaluate([sample([[1, 1, 0, 0]], [[1, 2, 2, 0]])])
    assert found["changed/Precision"] == 1.0 and found["changed/Recall"] == 0.5 and found["OA"] == 0.5


COVER = ("unchanged", "water", "tree", "building")


def land_cover(seed=0, shape=(6, 8)):
    """Return binary maps and land cover 0 to 2 of both dates, true and predicted; some labels are ignored."""
    random = np.random.default_rng(seed)
    maps = {}
    for kind in ("gt", "pred"):
        maps[kind] = random.integers(0, 2, shape)
        for date in ("_from", "_to"):
            maps[f"{kind}{date}"] = random.integers(0, 3, shape)
    for date in ("_from", "_to"):
        maps[f"gt{date}"] = np.where(maps["gt"] == 1, maps[f"gt{date}"], 255)
    maps["gt"][0, :3] = 255
    return maps


def semantic_sample(maps):
    fields = {
        name.replace("gt", "gt_sem_seg").replace("pred", "pred_sem_seg"): rows for name, rows in maps.items()
    }
    return {name: dict(data=torch.tensor(rows)[None]) for name, rows in fields.items()}


def evaluate_semantic(pairs, **kwargs):
    metric = SemanticChangeMetric(**kwargs)
    metric.dataset_meta = dict(classes=NAMES, semantic_classes=COVER)
    for maps in pairs:
        metric.process({}, [semantic_sample(maps)])
    return metric, metric.evaluate(len(pairs))


def covered(maps, kind, date):
    """Return land cover from 1, and 0 where nothing changed."""
    return np.where(maps[kind] == 1, maps[f"{kind}{date}"] + 1, 0)


def test_sek_by_the_areas_of_both_dates():
    pairs = [land_cover(seed) for seed in range(3)]
    metric, found = evaluate_semantic(pairs)
    true, predicted = [], []
    for maps in pairs:
        counted = maps["gt"] != 255
        for date in ("_from", "_to"):
            true.append(covered(maps, "gt", date)[counted])
            predicted.append(covered(maps, "pred", date)[counted])
    true, predicted = np.concatenate(true), np.concatenate(predicted)
    common = np.array([((true == c) & (predicted == c)).sum() for c in range(4)], float)
    label = np.array([(true == c).sum() for c in range(4)], float)
    found_area = np.array([(predicted == c).sum() for c in range(4)], float)
    ious = common / (label + found_area - common)
    label[0], found_area[0], common[0] = label[0] - common[0], found_area[0] - common[0], 0
    agreement = common.sum() / label.sum()
    chance = (label * found_area).sum() / found_area.sum() ** 2
    changed = (label[1:].sum() - found_area[0]) / label.sum()
    sek = (agreement - chance) / (1 - chance) * np.exp(changed) / np.e
    assert found["SeK"] == pytest.approx(sek) and -1 < sek < 1
    assert found["SCD_Score"] == pytest.approx(0.3 * found["binary/mIoU"] + 0.7 * sek)
    assert found["semantic/mIoU"] == pytest.approx(ious.mean())
    assert found["semantic/water/IoU"] == pytest.approx(ious[1])
    both = ((true == predicted) & (true > 0)).sum()
    assert found["semantic/Fscd"] == pytest.approx(2 * both / ((true > 0).sum() + (predicted > 0).sum()))
    assert found["changed/F1"] == pytest.approx(
        evaluate([sample(maps["gt"].tolist(), maps["pred"].tolist()) for maps in pairs])["changed/F1"]
    )
    assert metric.evaluation.dates.sum(axis=0).tolist() == metric.evaluation.matrix.tolist()


def test_changes_of_land_cover_are_counted_from_and_to():
    maps = land_cover()
    metric, _ = evaluate_semantic([maps])
    before, after = covered(maps, "pred", "_from"), covered(maps, "pred", "_to")
    counted = maps["gt"] != 255
    predicted = metric.evaluation.transitions[1]
    for row in range(4):
        for column in range(4):
            assert predicted[row, column] == ((before == row) & (after == column) & counted).sum()
    assert metric.evaluation.transitions[0].sum() == predicted.sum() == counted.sum()


def test_maps_that_the_model_has_covered_give_the_same():
    maps = land_cover()
    cover = {**maps}
    for kind in ("gt", "pred"):
        for date in ("_from", "_to"):
            cover[f"{kind}{date}"] = covered(maps, kind, date)
    assert evaluate_semantic([cover], covered=True)[1] == evaluate_semantic([maps])[1]


def test_perfect_semantic_change_scores_one_and_no_change_nothing():
    maps = land_cover()
    for kind in ("", "_from", "_to"):
        maps[f"pred{kind}"] = np.where(maps[f"gt{kind}"] == 255, 0, maps[f"gt{kind}"])
    found = evaluate_semantic([maps])[1]
    for name in ("SeK", "SCD_Score", "binary/mIoU", "semantic/mIoU", "semantic/Fscd"):
        assert found[name] == pytest.approx(1.0)
    assert math.isnan(separated_kappa(np.diag([5, 0, 0])))


def test_semantic_change_needs_the_names_of_land_cover():
    metric = SemanticChangeMetric()
    metric.dataset_meta = dict(classes=NAMES)
    with pytest.raises(ConfigError, match="land cover"):
        metric.process({}, [semantic_sample(land_cover())])
