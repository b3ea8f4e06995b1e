"""Layer-wise learning rates: every backbone's blocks are counted in the order in which they run."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed.deepspeed import tidy_groups
from rsfoundation.engine.optim import _BLOCK, layer_numbers
from rsfoundation.registry import MODELS

BACKBONES = {  # number of blocks; downsampling layers with a number of their own count
    "LSKNet": (dict(arch="t"), 3 + 3 + 5 + 2),
    "StripNet": (dict(arch="t"), 3 + 3 + 5 + 2),
    "RSPResNet": (dict(depth=50), 3 + 4 + 6 + 3),
    "RSPSwinTransformer": (dict(arch="t"), 2 + 2 + 6 + 2 + 3),
    "RSMamba": (dict(arch=dict(embed_dims=32, num_layers=3, feedforward_channels=48)), 3),
}


class Holder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 3)


def build(model, **paramwise):
    constructor = "rsfoundation.LayerDecayOptimWrapperConstructor"
    optimizer = dict(type="AdamW", lr=1.0, weight_decay=0.05)
    wrapper = dict(constructor=constructor, optimizer=optimizer, paramwise_cfg=paramwise)
    return build_optim_wrapper(model, wrapper).optimizer


def rates(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[item]: group["lr"] for group in optimizer.param_groups for item in group["params"]}


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_are_counted_in_the_order_in_which_they_run(name):
    arguments, count = BACKBONES[name]
    backbone = MODELS.build(dict(type=f"rsfoundation.{name}", **arguments))
    numbers = layer_numbers([key for key, _ in backbone.named_parameters()])
    assert sorted(set(numbers.values())) == list(range(count + 1))
    ran = []
    for key, module in backbone.named_modules():
        match = _BLOCK.match(f"{key}.")
        if match and match[0] == key and any(other.startswith(f"{key}.") for other in numbers):
            module.register_forward_pre_hook(lambda *_, key=key: ran.append(key))
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, 64, 64))
    order = [max(numbers[other] for other in numbers if other.startswith(f"{key}.")) for key in ran]
    first = next(key for key, _ in backbone.named_parameters())
    assert len(order) >= count - 3 and order == sorted(order) and numbers[first] == 0


def test_rates_fall_towards_the_stem_and_rules_without_decay_hold():
    torch.manual_seed(0)
    backbone = MODELS.build(dict(type="rsfoundation.LSKNet", arch="t"))
    model = Holder(backbone)
    backbone.patch_embed1.proj.weight.requires_grad_(False)
    custom = {"layer_scale": dict(decay_mult=0.0, lr_mult=0.5)}
    optimizer = build(model, decay_rate=0.9, norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys=custom)
    found = rates(model, optimizer)
    assert found["head.weight"] == 1.0
    assert found["backbone.block4.1.attn.proj_1.weight"] == pytest.approx(0.9)
    assert found["backbone.norm4.weight"] == pytest.approx(0.9)
    assert found["backbone.block1.0.attn.proj_1.weight"] == pytest.approx(0.9**13)
    assert found["backbone.block1.0.layer_scale_1"] == pytest.approx(0.5 * 0.9**13)
    assert found["backbone.patch_embed1.proj.bias"] == pytest.approx(0.9**14)
    assert "backbone.patch_embed1.proj.weight" not in found
    decays = {item: group["weight_decay"] for group in optimizer.param_groups for item in group["params"]}
    assert decays[backbone.norm1.weight] == 0 == decays[backbone.block1[0].layer_scale_1]
    assert decays[backbone.block1[0].attn.proj_1.weight] == 0.05
    tidy_groups(optimizer)  # what a ZeRO run steps: with decay, without, and the layer scales
    assert len(optimizer.param_groups) <= 3 * 15
    assert rates(model, optimizer) == found


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (dict(), "must lie above 0"),
        (dict(decay_rate=1.5), "must lie above 0"),
        (dict(decay_rate=0.9, part="bakbone"), "no part 'bakbone'"),
        (dict(decay_rate=0.9, part="head"), "no parameter of the part is in a numbered block"),
    ],
)
def test_wrong_rules_are_named(options, text):
    model = Holder(nn.ModuleList([nn.Linear(2, 2)]))
    with pytest.raises(ConfigError, match=text):
        build(model, **options)
