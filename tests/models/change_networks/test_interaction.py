import pytest
import torch
from cd_golden import Golden

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.change_networks.interaction import (
    Aggregation_distribution,
    ChannelExchange,
    SpatialExchange,
    build_interactions,
)


@pytest.mark.parametrize(("name", "kind"), [("ce", ChannelExchange), ("se", SpatialExchange)])
@pytest.mark.parametrize("step", [2, 3, 4])
def test_exchange_equals_official_outputs(name, kind, step):
    golden = Golden("cd_interaction")
    x1, x2 = kind(1 / step)(*golden.inputs().values())
    golden.check(f"{name}{step}.x1", x1, exact=True)
    golden.check(f"{name}{step}.x2", x2, exact=True)


@pytest.mark.parametrize("kind", [ChannelExchange, SpatialExchange])
def test_exchanging_twice_changes_nothing(kind):
    x1, x2 = torch.rand(2, 1, 6, 4, 5)
    again = kind(0.5)(*kind(0.5)(x1, x2))
    assert torch.equal(again[0], x1) and torch.equal(again[1], x2)


def test_share_one_swaps_all():
    x1, x2 = torch.rand(2, 1, 6, 4, 5)
    assert torch.equal(ChannelExchange(1)(x1, x2)[0], x2)


@pytest.mark.parametrize("share", [0, -0.5, 2])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ConfigError, match="expected 0 < p <= 1"):
        SpatialExchange(share)


def test_gates_equal_official_outputs():
    golden = Golden("cd_aggregation_distribution")
    with torch.no_grad():
        x1, x2 = golden.load(Aggregation_distribution(**golden.meta["kwargs"]))(*golden.inputs().values())
    golden.check("x1", x1)
    golden.check("x2", x2)


def test_none_leaves_a_stage_alone():
    (layer,) = build_interactions([None])
    x1, x2 = torch.rand(2, 1, 2, 3, 3)
    assert layer(x1, x2) == (x1, x2) and not layer.state_dict()
