"""What every registered pyramid backbone promises, whatever its architecture."""

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled

from rsfoundation.errors import ConfigError
from rsfoundation.registry import MODELS

SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}
TYPES = pytest.mark.parametrize("name", SMALLEST.values())


def build(name, **arguments):
    return MODELS.build({**NETWORKS[name], **arguments})


@pytest.mark.parametrize("name", NETWORKS)
def test_attributes_describe_the_selected_maps(name):
    model = build(name, out_indices=(1, 3)).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 96))
    assert isinstance(maps, tuple)
    assert tuple(x.shape[1] for x in maps) == model.out_channels
    assert [tuple(x.shape[2:]) for x in maps] == [(64 // s, 96 // s) for s in model.out_strides]


@TYPES
def test_unknown_arch_names_the_nearest(name):
    with pytest.raises(ConfigError, match="did you mean"):
        MODELS.build(dict(type=NETWORKS[name]["type"], arch=NETWORKS[name]["arch"].upper()))


@TYPES
@pytest.mark.parametrize("argument", [dict(out_indices=(0, 4)), dict(out_indices=()), dict(frozen_stages=9)])
def test_stages_that_do_not_exist_are_refused(name, argument):
    with pytest.raises(ConfigError):
        build(name, **argument)


@TYPES
def test_bands_other_than_three(name):
    model = build(name, in_channels=5).eval()
    with torch.no_grad():
        assert len(model(torch.randn(1, 5, 64, 64))) == 4


@TYPES
def test_frozen_stages_stay_frozen_in_training(name):
    model = build(name, frozen_stages=1).train()
    frozen = list(model.frozen_modules())
    assert frozen
    for module in frozen:
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert model.training and any(parameter.requires_grad for parameter in model.parameters())
    before = {key: value.clone() for module in frozen for key, value in module.state_dict().items()}
    model(torch.randn(2, 3, 64, 64))
    after = {key: value for module in frozen for key, value in module.state_dict().items()}
    assert all(torch.equal(before[key], after[key]) for key in before)


@TYPES
def test_norm_eval_keeps_running_statistics(name):
    model = build(name, norm_eval=True).train()
    before = {key: value.clone() for key, value in model.state_dict().items() if "running" in key}
    model(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def train_step(model, inputs):
    torch.manual_seed(0)
    maps = model(inputs)
    sum(x.square().mean() for x in maps).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return maps, gradients, dict(model.state_dict())


@TYPES
def test_gradient_checkpointing_changes_nothing(name):
    inputs = torch.randn(2, 3, 64, 64)
    plain = train_step(build_filled(name, drop_path_rate=0.3).train(), inputs)
    frugal = train_step(build_filled(name, drop_path_rate=0.3, with_cp=True).train(), inputs)
    for expected, found in zip(plain[0], frugal[0], strict=True):
        assert torch.equal(expected, found)
    for expected, found in zip(plain[1:], frugal[1:], strict=True):
        assert expected.keys() == found.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-5, msg=key)


@TYPES
def test_training_without_drops_on_running_statistics_equals_evaluation(name):
    inputs = torch.randn(2, 3, 64, 64)
    expected = build_filled(name)(inputs)
    found = build_filled(name, norm_eval=True, drop_path_rate=0.0).train()(inputs)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)
