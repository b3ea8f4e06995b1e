"""The best object of each detection, against all pairs compared one by one with shapely."""

import numpy as np
import pytest
import shapely
import torch
from random_records import random_records

from rsfoundation.evaluation.oriented.matching import best_overlaps
from rsfoundation.evaluation.oriented.records import findings_of
from rsfoundation.geometry.boxes import rbox_to_quad


def expected(findings, by_class):
    found = shapely.polygons(rbox_to_quad(findings.boxes))
    truth = shapely.polygons(rbox_to_quad(findings.truth))
    common = shapely.area(shapely.intersection(found[:, None], truth[None]))
    iou = common / (shapely.area(found)[:, None] + shapely.area(truth)[None] - common)
    same = findings.image[:, None] == findings.truth_image[None]
    if by_class:
        same &= findings.labels[:, None] == findings.truth_labels[None]
    iou = np.where(same, iou, 0)
    return iou.max(1), np.where(iou.max(1) > 0, iou.argmax(1), -1)


@pytest.mark.parametrize("matching", ["mmrotate", "devkit"])
@pytest.mark.parametrize("by_class", [True, False])
def test_equals_all_pairs(make_record, matching, by_class):
    findings = findings_of(random_records(make_record))
    overlaps, targets = best_overlaps(findings, matching, by_class)
    best, index = expected(findings, by_class)
    np.testing.assert_allclose(overlaps, best, atol=2e-6)
    clear = best > 1e-5  # closer to nothing than that, rounding decides
    assert (targets == index)[clear].all() and clear.sum() > 80


@pytest.mark.parametrize("matching", ["mmrotate", "devkit"])
def test_threads_change_nothing(make_record, matching, monkeypatch):
    findings = findings_of(random_records(make_record))
    whole = best_overlaps(findings, matching)
    monkeypatch.setattr("rsfoundation.evaluation.oriented.matching._GRAIN", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    parts = best_overlaps(findings, matching)
    assert (whole.overlaps == parts.overlaps).all() and (whole.targets == parts.targets).all()


def test_the_first_of_equally_near_objects_is_taken(make_record):
    twice = [(20, 20, 10, 6, 0.2), (20, 20, 10, 6, 0.2)]
    findings = findings_of([make_record("a", twice[:1], [0.9], [0], twice, [0, 0])])
    assert best_overlaps(findings, "mmrotate").targets.tolist() == [0]


def test_devkit_compares_corners_as_labelled_and_mmrotate_the_rectangle_around_them(make_record):
    # a trapezium whose smallest rectangle is the detection; its own area is three quarters of that
    trapezium = [(0, 0, 20, 0, 15, 10, 5, 10)]
    record = make_record("a", [(10, 5, 20, 10, 0)], [0.9], [0], trapezium, [0])
    assert best_overlaps(findings_of([record]), "mmrotate").overlaps == pytest.approx(1.0, abs=1e-5)
    assert best_overlaps(findings_of([record]), "devkit").overlaps == pytest.approx(0.75)


def test_nothing_on_either_side(make_record):
    found, truth = [(20, 20, 10, 6, 0.2)], [(60, 60, 10, 6, 0.2)]
    for record in (
        make_record("a"),
        make_record("a", found, [0.9], [0]),
        make_record("a", truth=truth, truth_labels=[0]),
    ):
        overlaps, targets = best_overlaps(findings_of([record]), "mmrotate")
        assert not overlaps.any() and (targets == -1).all() and len(targets) == len(record.boxes)
    assert len(best_overlaps(findings_of([]), "devkit").targets) == 0
