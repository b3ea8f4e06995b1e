"""Every backbone through torch.compile: one graph of its whole forward, with the eager network's results.

By default one network; ``-m slow`` does all.
"""

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled
from small_backbones import SMALL

from rsfoundation.registry import MODELS

SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}
ENCODERS = {name: SMALL[name] for name in ("rsmamba", "sam_vit")}


def build(name):
    torch.manual_seed(0)
    return MODELS.build(ENCODERS[name]) if name in ENCODERS else build_filled(name)


def cases():
    """One network of each class; ``-m slow`` adds all but the first."""
    names = [*SMALLEST.values(), *ENCODERS]
    return [pytest.param(name, marks=() if name == "rsmamba" else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", cases())
def test_one_graph_with_equal_results(name, training):
    model = build(name).train(training)
    inputs = torch.randn(2, 3, 64, 64)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)  # a graph break is an error
    results = []
    for network in (model, compiled):
        torch.manual_seed(1)  # stochastic depth
        with torch.set_grad_enabled(training):
            maps = network(inputs)
        maps = [maps] if isinstance(maps, torch.Tensor) else list(maps)
        slopes = []
        if training:
            model.zero_grad()
            sum(each.square().mean() for each in maps).backward()
            slopes = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append((maps, slopes))
    for found, wanted in zip(results[1][0], results[0][0], strict=True):
        assert_close(found.detach(), wanted.detach())
    for found, wanted in zip(results[1][1], results[0][1], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max() + 1))
