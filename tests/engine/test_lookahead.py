"""Lookahead: the rule of its paper, next to the plain optimiser, and through a stop."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.optim import Lookahead


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        loss = model(torch.randn(8, 3, generator=generator)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_weights_follow_the_rule():
    """Two rounds of k plain steps, each followed by a move of the slow weights, written out."""
    model, expected = net(), net()
    train(model, Lookahead(model.parameters(), lr=0.1, k=3, alpha=0.5), 6)
    plain = torch.optim.AdamW(expected.parameters(), lr=0.1)
    slow = [p.detach().clone() for p in expected.parameters()]
    for start in (0, 3):
        train(expected, plain, 3, start)
        with torch.no_grad():
            for p, kept in zip(expected.parameters(), slow, strict=True):
                kept += 0.5 * (p - kept)
                p.copy_(kept)
    assert torch.allclose(weights(model), weights(expected), atol=1e-7)


def test_between_moves_it_is_the_plain_optimiser():
    model, plain = net(), net()
    train(model, Lookahead(model.parameters(), base="SGD", lr=0.01, momentum=0.9), 4)
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9), 4)
    assert torch.equal(weights(model), weights(plain))


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_resumed_run_continues_bit_for_bit(stop):
    whole = net()
    train(whole, Lookahead(whole.parameters(), lr=0.1), 12)
    first = net()
    optimizer = Lookahead(first.parameters(), lr=0.1)
    train(first, optimizer, stop)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second = net()
    second.load_state_dict(saved[0])
    again = Lookahead(second.parameters(), lr=0.1)
    again.load_state_dict(saved[1])
    train(second, again, 12 - stop, stop)
    assert torch.equal(weights(second), weights(whole))


def test_a_config_builds_it_with_its_parameter_rules():
    wrapper = build_optim_wrapper(
        net(),
        dict(
            optimizer=dict(type="rsfoundation.Lookahead", lr=1.0, weight_decay=0.01, k=2),
            paramwise_cfg=dict(bias_decay_mult=0.0),
        ),
    )
    decays = [group["weight_decay"] for group in wrapper.optimizer.param_groups]
    assert sorted(decays) == [0.0, 0.0, 0.01, 0.01]
    wrapper.optimizer.param_groups[0]["lr"] = 0.5
    assert wrapper.optimizer.base.param_groups[0]["lr"] == 0.5, "schedules reach the optimiser inside"


@pytest.mark.parametrize("options", [dict(k=0), dict(alpha=0.0), dict(alpha=1.5)])
def test_settings_without_meaning_are_refused(options):
    with pytest.raises(ConfigError, match="k is"):
        Lookahead(net().parameters(), **options)
