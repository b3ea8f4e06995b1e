"""The side-by-side benchmark compares outputs before it times anything."""

import importlib.util
import sys

import pytest
import torch
from backbone_golden import build_filled
from locations import BENCHMARKS

FOLDER = BENCHMARKS


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("backbones_benchmark", FOLDER / "backbones.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_equal_outputs_pass_and_different_ones_stop_it(bench):
    model, x = build_filled("rsp_resnet50"), torch.randn(1, 3, 64, 64)
    plain = bench.PLAIN["RSPResNet"]
    assert bench.compare(model, plain, x) <= bench.TOLERANCE
    with pytest.raises(SystemExit, match="outputs differ"):
        bench.compare(model, lambda *args: [maps * 1.001 for maps in plain(*args)], x)


def test_rates_are_positive(bench):
    assert bench.matrix_rate(side=64, repeats=1) > 0
    assert bench.EVALUATION_SHAPE == (1, 3, 512, 512)
