"""What every registered pyramid backbone promises, whatever its architecture."""

import pytest
import torch
from backbone_golden import NETWORKS, assert_close, build_filled
from mmcv.cnn.bricks import DropPath

from rsfoundation.core.errors import ConfigError
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
    kind, (key, known) = NETWORKS[name]["type"], list(NETWORKS[name].items())[-1]
    with pytest.raises(ConfigError, match=f"did you mean '{known}'"):
        MODELS.build({"type": kind, key: f"{known}x"})


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


@TYPES
def test_every_backbone_takes_the_same_arguments(name):
    shared = dict(
        in_channels=4,
        out_indices=(1, 2),
        drop_path_rate=0.2,
        norm_cfg=dict(type="BN", eps=1e-3),
        frozen_stages=0,
        norm_eval=True,
        with_cp=True,
        init_cfg=None,
    )
    model = build(name, **shared).train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert bool(norms) != (NETWORKS[name]["type"] == "RSPSwinTransformer")
    assert not norms or max(norm.eps for norm in norms) == 1e-3
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert rates[0] == 0 < max(rates) <= 0.2
    assert len(model(torch.randn(2, 4, 64, 64))) == 2


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
    frugal = train_step(build_filled(name, with_cp=True, drop_path_rate=0.3).train(), inputs)
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
    found = build_filled(name, norm_eval=True).train()(inputs)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)


UNUSED = ("relative_position_bias_table", "norm0", "norm1", "norm2", "norm3")


@TYPES
def test_gradients_reach_every_parameter_but_the_published_idle_ones(name):
    model = build_filled(name).train()
    _, gradients, _ = train_step(model, torch.randn(2, 3, 64, 64))
    idle = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    if NETWORKS[name]["type"] == "ViTAEv2":
        assert len(idle) == 14 and all(any(part in key for part in UNUSED) for key in idle)
    else:
        assert not idle
    assert gradients.keys() == {key for key, _ in model.named_parameters()} - idle
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


@TYPES
def test_shortcuts_of_inference_equal_the_training_graph(name):
    """At sizes that need padding, with layer scales large enough for every branch to count.

    In double precision: with such scales the rounding of single precision alone is as large as 5e-5.
    """
    model = build_filled(name).double()
    for key, parameter in model.named_parameters():
        if "layer_scale" in key:
            parameter.data.fill_(1.0)
    inputs = torch.randn(2, 3, 70, 101, dtype=torch.float64)
    expected = model(inputs)
    with torch.no_grad():
        found = model(inputs)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b.detach(), 1e-10)


@TYPES
@pytest.mark.parametrize("size", [(32, 32), (45, 67), (100, 132)])
def test_any_size_from_32_on(name, size):
    model = build(name).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, *size))
    for x, stride in zip(maps, model.out_strides, strict=True):
        lengths = [side // 4 * 4 if NETWORKS[name]["type"] == "LWGANet" else side for side in size]
        assert tuple(x.shape[2:]) == tuple(-(-length // stride) for length in lengths)
        assert x.isfinite().all()


@TYPES
def test_scratch_initialisation_is_finite_and_varied(name):
    model = build(name)
    model.init_weights()
    with torch.no_grad():
        maps = model.eval()(torch.randn(1, 3, 64, 64))
    assert all(x.isfinite().all() and x.std() > 0 for x in maps)
