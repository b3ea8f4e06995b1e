"""The training graph against the same networks written the plain way: batch statistics, gradients, counters.

In double precision: in single, rounding decides between near-equal maxima that LWGANet puts back where they
were.
"""

import copy
import sys

import pytest
import torch
from backbone_golden import NETWORKS, build_filled, image
from locations import BENCHMARKS

sys.path.insert(0, str(BENCHMARKS))
from plain_backbones import PLAIN

SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}
NAMES = [pytest.param(name, marks=() if name in SMALLEST.values() else pytest.mark.slow) for name in NETWORKS]


def step(model, forward, inputs, weights):
    """Maps, then gradients of their weighted sum: of the image, of every parameter."""
    inputs = inputs.clone().requires_grad_()
    maps = forward(inputs)
    sum((x * w).sum() for x, w in zip(maps, weights, strict=True)).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return maps, inputs.grad, gradients


def assert_near(found, expected, what):
    scale = expected.abs().max().clamp(min=1e-3)
    assert ((found - expected).abs().max() / scale).item() < 1e-6, what


@pytest.mark.parametrize("train", [True, False], ids=["batch statistics", "running statistics"])
@pytest.mark.parametrize("name", NAMES)
def test_maps_and_gradients_equal_those_of_the_plain_form(name, train):
    ours = build_filled(name).double().train(train)
    plain = copy.deepcopy(ours)
    forward = PLAIN[NETWORKS[name]["type"]]
    side = 96 if "lwganet" in name else 64  # the smallest that the published networks take
    inputs = image(name, (2, 3, side, side)).double()
    with torch.no_grad():
        weights = [torch.randn_like(x) for x in copy.deepcopy(ours)(inputs)]
    maps, of_image, gradients = step(ours, ours, inputs, weights)
    wanted = step(plain, lambda x: forward(plain, x), inputs, weights)
    for stage, (found, expected) in enumerate(zip(maps, wanted[0], strict=True)):
        assert_near(found, expected, f"map {stage}")
    assert_near(of_image, wanted[1], "gradient of the image")
    assert gradients.keys() == wanted[2].keys()
    for key, gradient in gradients.items():
        assert_near(gradient, wanted[2][key], f"gradient of {key}")
    for key, value in plain.state_dict().items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert_near(ours.state_dict()[key].double(), value.double(), key)
