import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from rsfoundation.core.errors import ConfigError
from rsfoundation.evaluation.confusion import ChangeMetric

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
