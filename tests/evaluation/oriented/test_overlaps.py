"""The best object of each detection, against all pairs compared one by one with shapely."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from quad_overlap import winding_overlap
from random_records import random_records

from rsfoundation.evaluation.oriented.image_results import join_results
from rsfoundation.evaluation.oriented.matching import best_overlaps
from rsfoundation.geometry.boxes import rbox_to_quad


def expected(table, by_class):
    found = shapely.polygons(rbox_to_quad(table.boxes))
    truth = shapely.polygons(rbox_to_quad(table.truth))
    common = shapely.area(shapely.intersection(found[:, None], truth[None]))
    iou = common / (shapely.area(found)[:, None] + shapely.area(truth)[None] - common)
    same = table.image[:, None] == table.truth_image[None]
    if by_class:
        same &= table.labels[:, None] == table.truth_labels[None]
    iou = np.where(same, iou, 0)
    return iou.max(1), np.where(iou.max(1) > 0, iou.argmax(1), -1)


@pytest.mark.parametrize("matching", ["mmrotate", "devkit"])
@pytest.mark.parametrize("by_class", [True, False])
def test_equals_all_pairs(make_record, matching, by_class):
    table = join_results(random_records(make_record))
    overlaps, targets = best_overlaps(table, matching, by_class)
    best, index = expected(table, by_class)
    np.testing.assert_allclose(overlaps, best, atol=2e-6)
    clear = best > 1e-5  # closer to nothing than that, rounding decides
    assert (targets == index)[clear].all() and clear.sum() > 80


@pytest.mark.parametrize("matching", ["mmrotate", "devkit"])
def test_threads_change_nothing(make_record, matching, monkeypatch):
    table = join_results(random_records(make_record))
    whole = best_overlaps(table, matching)
    monkeypatch.setattr("rsfoundation.evaluation.oriented.matching._GRAIN", 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    parts = best_overlaps(table, matching)
    assert (whole.overlaps == parts.overlaps).all() and (whole.targets == parts.targets).all()


def test_the_first_of_equally_near_objects_is_taken(make_record):
    twice = [(20, 20, 10, 6, 0.2), (20, 20, 10, 6, 0.2)]
    table = join_results([make_record("a", twice[:1], [0.9], [0], twice, [0, 0])])
    assert best_overlaps(table, "mmrotate").targets.tolist() == [0]


def test_devkit_compares_corners_as_labelled_and_mmrotate_the_rectangle_around_them(make_record):
    # a trapezium whose smallest rectangle is the detection; its own area is three quarters of that
    trapezium = [(0, 0, 20, 0, 15, 10, 5, 10)]
    record = make_record("a", [(10, 5, 20, 10, 0)], [0.9], [0], trapezium, [0])
    assert best_overlaps(join_results([record]), "mmrotate").overlaps == pytest.approx(1.0, abs=1e-5)
    assert best_overlaps(join_results([record]), "devkit").overlaps == pytest.approx(0.75)


def test_nothing_on_either_side(make_record):
    found, truth = [(20, 20, 10, 6, 0.2)], [(60, 60, 10, 6, 0.2)]
    for record in (
        make_record("a"),
        make_record("a", found, [0.9], [0]),
        make_record("a", truth=truth, truth_labels=[0]),
    ):
        overlaps, targets = best_overlaps(join_results([record]), "mmrotate")
        assert not overlaps.any() and (targets == -1).all() and len(targets) == len(record.boxes)
    assert len(best_overlaps(join_results([]), "devkit").targets) == 0


def test_quads_of_every_shape_keep_their_corners_under_devkit_rules(make_record):
    rng = np.random.default_rng(3)
    found, truth = rng.uniform(10, 60, (200, 4, 2)), rng.uniform(10, 60, (40, 4, 2))
    found[:20] = truth[:20] + rng.normal(0, 1, (20, 4, 2))  # near ones, too
    found[20:40] = truth[20:, ::-1]  # and the other way round
    record = make_record("a", truth=truth.reshape(-1, 8), truth_labels=np.zeros(40), scores=np.ones(200))
    rows = dict(boxes=found.reshape(-1, 8), labels=np.zeros(200, np.int16), truth=truth.reshape(-1, 8))
    record = replace(record, **rows)
    overlaps, targets = best_overlaps(join_results([record]), "devkit")
    every = np.array([[winding_overlap(quad, other) for other in truth] for quad in found])
    np.testing.assert_allclose(overlaps, every.max(axis=1).clip(0), atol=1e-9)
    clear = every.max(axis=1) > 1e-6
    assert (targets == every.argmax(axis=1))[clear].all()
    edges = np.roll(truth, -1, 1) - truth
    after = np.roll(edges, -1, 1)
    turns = edges[..., 0] * after[..., 1] - edges[..., 1] * after[..., 0]
    kinds = {int(count) for count in (turns > 0).sum(axis=1)}
    assert kinds == {0, 1, 2, 3, 4}, "convex, concave and crossed quads of both directions are among them"


def test_a_concave_quad_is_not_its_hull(make_record):
    arrow = np.array([[0, 0, 20, 10, 0, 20, 8, 10]], float)  # its hull is a triangle of 200, itself 120
    hull = [(0, 0, 20, 10, 0, 20, 0, 10)]
    record = make_record("a", scores=[0.9], labels=[0], truth=hull, truth_labels=[0])
    record = replace(record, boxes=arrow)
    assert best_overlaps(join_results([record]), "devkit").overlaps == pytest.approx(120 / 200)


def test_detected_quads_become_rectangles_under_mmrotate_rules(make_record):
    trapezium = np.array([(0, 0, 20, 0, 15, 10, 5, 10)], float)
    record = make_record("a", scores=[0.9], labels=[0], truth=[(10, 5, 20, 10, 0)], truth_labels=[0])
    record = replace(record, boxes=trapezium)
    assert best_overlaps(join_results([record]), "mmrotate").overlaps == pytest.approx(1.0, abs=1e-5)
    assert best_overlaps(join_results([record]), "devkit").overlaps == pytest.approx(0.75)
