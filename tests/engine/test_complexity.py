"""Parameters and multiply-adds against the published networks' figures."""

import pytest
from backbone_golden import NETWORKS
from torch import nn

from rsfoundation.engine.networks import measure_complexity
from rsfoundation.registry import MODELS

# Parameters, then 10^9 multiply-adds at 224, 512 and 1024 pixels, measured on the published code.
FIGURES = {
    "lsknet_t": (3_990_190, 0.892, 4.660, 18.638),
    "lsknet_s": (13_840_892, 2.575, 13.454, 53.815),
    "stripnet_t": (3_832_800, 0.857, 4.477, 17.910),
    "stripnet_s": (13_321_920, 2.485, 12.982, 51.928),
    "lwganet_l0": (1_333_058, 0.182, 0.976, 4.307),
    "lwganet_l1": (5_195_890, 0.700, 3.712, 15.653),
    "lwganet_l2": (12_002_862, 1.855, 9.772, 40.292),
    "rsp_resnet50": (23_508_032, 4.087, 21.353, 85.413),
    "rsp_swin_t": (27_520_698, 4.490, 25.503, 98.410),
    "vitaev2_s": (18_845_960, 5.752, 34.467, 197.385),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_figures_are_the_published_ones(name):
    model = MODELS.build(NETWORKS[name])
    params, *expected = FIGURES[name]
    for side, macs in zip((224, 512, 1024), expected, strict=True):
        total = measure_complexity(model, (1, 3, side, side)).total
        assert total.params == params
        assert total.macs / 1e9 == pytest.approx(macs, rel=5e-3)


def test_parts_are_stages_and_add_up():
    swin = measure_complexity(MODELS.build(NETWORKS["rsp_swin_t"]), (1, 3, 64, 64))
    names = [part.name for part in swin.parts]
    assert names[:5] == ["patch_embed", "layers.0", "layers.1", "layers.2", "layers.3"]
    lsknet = measure_complexity(MODELS.build(NETWORKS["lsknet_t"]), (1, 3, 64, 64))
    assert {"patch_embed1", "block1", "norm1", "block4"} <= {part.name for part in lsknet.parts}


def test_a_small_model_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    report = measure_complexity(model, (2, 3, 4, 4))
    conv, linear = report.parts
    assert (conv.params, conv.macs, conv.activations) == (3 * 8 * 9 + 8, 2 * 8 * 16 * 27, 2 * 8 * 16)
    assert (linear.params, linear.macs, linear.activations) == (8 * 16 * 5 + 5, 2 * 8 * 16 * 5, 10)
    assert report.total.flops == 2 * (conv.macs + linear.macs)
    assert next(model.parameters()).device.type == "cpu"
