"""Timings say what they were taken with, and leave the model able to run."""

import pytest
import torch
from backbone_golden import NETWORKS

from rsfoundation.engine.benchmark import measure_latency
from rsfoundation.registry import MODELS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_figures_are_consistent_and_state_their_conditions(dtype):
    model = MODELS.build(NETWORKS["lsknet_t"])
    report = measure_latency(model, (2, 3, 64, 64), dtype=dtype, channels_last=False, repeats=3)
    assert 0 < report.p50_ms <= report.p95_ms
    assert report.images_per_s == pytest.approx(2 / (report.p50_ms / 1e3))
    assert report.peak_memory_mib > 1
    assert (report.dtype, report.memory_format) == (str(dtype)[6:], "contiguous")
    assert report.input_shape == (2, 3, 64, 64) and report.threads == torch.get_num_threads()
    assert next(model.parameters()).dtype == dtype


def test_autocast_runs_the_inference_path():
    model = MODELS.build(NETWORKS["lsknet_t"]).eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(inputs)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(inputs)
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b).abs().mean() < 0.05 * b.abs().max()
