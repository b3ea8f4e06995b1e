"""Our operators, through ``mmcv.ops``, against results of a compiled mmcv 2.3.6, on every device there is."""

from pathlib import Path

import numpy as np
import op_cases
import pytest
import shapely
import torch
from op_cases import corners, degenerate_boxes, feature_cases, kept_cases, overlap_cases, rotated_boxes

GOLDENS = np.load(Path(__file__).with_name("mmcv_ops.npz"))
# Inputs of cases on which mmcv's float32 geometry goes wrong; there shapely is the judge.
JUDGED = {
    "iou_rotated_degenerate": degenerate_boxes(),
    "iou_rotated_slivers": rotated_boxes(40, 60, 3, low=0.2, high=80),
}

CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True, params=["cpu", pytest.param("cuda", marks=CUDA)])
def device(request, monkeypatch):
    monkeypatch.setattr(op_cases, "device", request.param)


def pairs(name, values):
    values = [
        value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value) for value in values
    ]
    expected = [GOLDENS[f"{name}/{index}"] for index in range(len(values))]
    assert f"{name}/{len(values)}" not in GOLDENS
    return zip(values, expected, strict=True)


@pytest.mark.parametrize("name", [name for name in overlap_cases() if name not in JUDGED])
def test_overlaps(name):
    for ours, mmcv in pairs(name, overlap_cases()[name]()):
        np.testing.assert_allclose(ours, mmcv, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", JUDGED)
def test_overlaps_where_shapely_decides(name):
    ours, mmcv = next(iter(pairs(name, overlap_cases()[name]())))
    shapes = shapely.polygons(corners(JUDGED[name].double()).numpy().reshape(-1, 4, 2))
    common = shapely.area(shapely.intersection(shapes[:, None], shapes[None]))
    union = shapely.area(shapes)[:, None] + shapely.area(shapes)[None] - common
    truth = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    np.testing.assert_allclose(ours, truth, atol=1e-6)
    wrong = np.abs(mmcv - truth) > 1e-5
    np.testing.assert_allclose(ours[~wrong], mmcv[~wrong], atol=2e-5)
    assert wrong.mean() < 0.05


@pytest.mark.parametrize("name", kept_cases())
def test_kept_sets_are_identical(name):
    for ours, mmcv in pairs(name, kept_cases()[name]()):
        assert ours.tolist() == mmcv.tolist()


@pytest.mark.parametrize("name", feature_cases())
def test_features_and_gradients(name):
    for ours, mmcv in pairs(name, feature_cases()[name]()):
        scale = np.abs(mmcv).max()
        np.testing.assert_allclose(ours, mmcv, atol=1e-5 * scale, rtol=1e-5)


def test_the_goldens_name_their_version():
    assert GOLDENS["versions"][0] == "2.3.6"
