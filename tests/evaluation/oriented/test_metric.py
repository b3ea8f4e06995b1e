"""From data samples to metrics."""

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import QuadriBoxes, RotatedBoxes

from rsfoundation.core.errors import ConfigError
from rsfoundation.evaluation.oriented.metric import DOTAMetric
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.registry import METRICS

A, B = [20.0, 20, 10, 6, 0.4], [60.0, 40, 12, 8, -0.3]


def sample(found=(), scores=(), found_labels=(), truth=(), labels=(), ignored=(), ignored_labels=()):
    def boxes(rows):
        return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)

    result = DetDataSample()
    result.pred_instances = InstanceData(
        bboxes=boxes(found),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(found_labels, dtype=torch.long),
    )
    result.gt_instances = InstanceData(
        bboxes=RotatedBoxes(boxes(truth)), labels=torch.tensor(labels, dtype=torch.long)
    )
    result.ignored_instances = InstanceData(
        bboxes=RotatedBoxes(boxes(ignored)), labels=torch.tensor(ignored_labels, dtype=torch.long)
    )
    return result.to_dict()


def evaluate(samples, **kwargs):
    metric = DOTAMetric(**kwargs)
    metric.dataset_meta = {"classes": ("ship", "plane", "harbor")}
    for item in samples:
        metric.process({}, [item])
    return metric.evaluate(len(samples))


def test_exact_boxes_score_one():
    result = evaluate([sample([A, B], [0.9, 0.8], [0, 1], [A, B], [0, 1])])
    for name in ("mAP50", "mAP75", "mAP", "mAP50_voc07", "mAP50_voc12", "AP50/ship", "AP50/plane"):
        assert result[f"detection/{name}"] == pytest.approx(1.0)
    assert "detection/AP50/harbor" not in result


def test_shifted_box_passes_low_thresholds_only():
    # 10 x 6 upright box moved by 2 along its length: IoU = 8/12, so thresholds .5 .55 .6 .65 of ten
    moved = sample([[22.0, 20, 10, 6, 0]], [0.9], [0], [[20.0, 20, 10, 6, 0]], [0])
    result = evaluate([moved], rule="voc12")
    assert result["detection/mAP50"] == pytest.approx(1.0)
    assert result["detection/mAP75"] == 0.0
    assert result["detection/mAP"] == pytest.approx(0.4)


def test_rules_differ_where_they_must():
    samples = [sample([A, B], [0.9, 0.95], [0, 0], [A], [0]), sample(truth=[B], labels=[0])]
    seven, twelve = (evaluate(samples, rule=rule) for rule in ("voc07", "voc12"))
    # one of two objects found at precision 1/2
    assert seven["detection/mAP50"] == pytest.approx(6 * 0.5 / 11) == seven["detection/mAP50_voc07"]
    assert twelve["detection/mAP50"] == pytest.approx(0.25) == seven["detection/mAP50_voc12"]


def test_classes_do_not_mix_and_ignored_objects_are_free():
    wrong_class = evaluate([sample([A], [0.9], [1], [A], [0])])
    assert wrong_class["detection/mAP50"] == 0.0
    free = evaluate([sample([A, B], [0.8, 0.9], [0, 0], [A], [0], [B], [0])])
    assert free["detection/mAP50"] == pytest.approx(1.0)


def test_empty_images_and_no_truth_at_all():
    result = evaluate([sample(), sample([A], [0.9], [0]), sample(truth=[A], labels=[0])])
    assert result["detection/mAP50"] == 0.0
    assert math.isnan(evaluate([sample([A], [0.9], [0])])["detection/mAP50"])


def test_quadrilateral_truth_is_fitted():
    item = sample([A], [0.9], [0], [A], [0])
    item["gt_instances"]["bboxes"] = QuadriBoxes(torch.from_numpy(rbox_to_quad([A]).reshape(1, 8)).float())
    assert evaluate([item])["detection/mAP"] == pytest.approx(1.0)


def test_table_names_the_classes(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    evaluate([sample([A], [0.9], [0], [A], [0])])
    logger.removeHandler(caplog.handler)
    assert "ship" in caplog.text and "harbor" not in caplog.text


def test_registered():
    assert METRICS.get("rsfoundation.DOTAMetric") is DOTAMetric


def named(name, **kwargs):
    return {**sample(**kwargs), "img_id": name, "img_path": f"{name}.png", "ori_shape": (100, 100)}


def test_what_a_sampler_hands_out_twice_counts_once():
    one = named("a", found=[A], scores=[0.9], found_labels=[0], truth=[A], labels=[0])
    two = named("b", found=[B], scores=[0.8], found_labels=[0], truth=[B, A], labels=[0, 0])
    assert evaluate([one, two]) == evaluate([two, one, two, two])
    assert evaluate([one, two])["detection/mAP50_voc12"] == pytest.approx(2 / 3)


def test_patches_of_one_file_are_not_taken_for_copies():
    left = {**named("P1__100__0___0", truth=[A], labels=[0]), "img_path": "P1.tif"}
    right = {**named("P1__100__80___0", truth=[A], labels=[0]), "img_path": "P1.tif"}
    metric = DOTAMetric()
    metric.dataset_meta = {"classes": ("ship",)}
    for item in (left, right):
        metric.process({}, [item])
    metric.evaluate(2)
    assert metric.evaluation.curves[0][0].objects == 2


def test_full_images_merge_patches_and_labels(tmp_path):
    left = named("P1__64__0___0", found=[B], scores=[0.9], found_labels=[0], truth=[B], labels=[0])
    shifted = [B[0] - 40, *B[1:]]
    right = named(
        "P1__64__40___0", found=[shifted], scores=[0.8], found_labels=[0], truth=[shifted], labels=[0]
    )
    assert evaluate([left, right], full_images=True)["detection/mAP50"] == pytest.approx(1.0)
    quad = " ".join(map(str, rbox_to_quad([B]).ravel().tolist()))
    (tmp_path / "P1.txt").write_text(f"{quad} ship 1\n1 1 9 1 9 9 1 9 ship 0\n")
    # mmrotate counts the difficult ship, which is found, and the other, which is missed
    loose = evaluate([left, right], full_image_labels=str(tmp_path), rule="voc12")
    assert loose["detection/mAP50"] == pytest.approx(0.5)
    # to the devkit the difficult one counts for nothing, and neither does its detection
    strict = evaluate([left, right], full_image_labels=str(tmp_path), rule="voc12", matching="devkit")
    assert strict["detection/mAP50"] == 0.0


def test_difficult_objects_of_full_images_count_in_later_versions(tmp_path):
    from rsfoundation.datasets.oriented.classes import DOTA_CLASSES

    quad = " ".join(map(str, rbox_to_quad([B]).ravel().tolist()))
    (tmp_path / "P1.txt").write_text(f"{quad} plane 1\n")
    counts = []
    for version in ("1.0", "1.5", "2.0"):
        metric = DOTAMetric(full_image_labels=str(tmp_path), matching="devkit")
        metric.dataset_meta = {"classes": DOTA_CLASSES[version]}
        metric.process({}, [named("P1", found=[B], scores=[0.9], found_labels=[0])])
        metric.evaluate(1)
        counts.append(metric.evaluation.curves[0][0].objects)
    assert counts == [0, 1, 1]


def test_unlabelled_samples_are_told_what_they_are_good_for(caplog):
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    evaluate([named("a", found=[A], scores=[0.9], found_labels=[0])])
    logger.removeHandler(caplog.handler)
    assert "--format-only" in caplog.text


@pytest.mark.parametrize("wrong", [dict(rule="voc10"), dict(matching="dota")])
def test_unknown_rules_are_refused(wrong):
    with pytest.raises(ConfigError, match="there is no") as caught:
        DOTAMetric(**wrong)
    assert "one of" in caught.value.fix


def test_a_model_with_more_classes_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="class number 5, and the data set has 3"):
        evaluate([sample([A], [0.9], [4], [A], [0])])
