"""LoRA on every kind of layer of every backbone: evaluation equals the merged network, or an error."""

import copy
import functools
import re

import pytest
import torch
from backbone_golden import NETWORKS, build_filled
from mmengine.model import BaseModel
from mmengine.registry import MODELS as ROOT
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.peft import merge_adapters, with_lora
from rsfoundation.registry import MODELS

pytest.importorskip("peft", reason="adapters: pip install rsfoundation[peft]")
DEFAULT = r"(.*\.)?(qkv|proj|fc1|fc2|in_proj|out_proj|x_proj)"
ARCH = dict(embed_dims=32, num_layers=2, feedforward_channels=48)
PLAIN = dict(img_size=64, out_type="featmap", out_indices=(0, 1))
SAM = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, output_channels=16, window_size=3)
ENCODERS = {
    "rsmamba": dict(type="RSMamba", arch=ARCH, dt_init="torch", **PLAIN),
    "sam_vit": dict(type="SAMViT", image_size=64, global_attn_indexes=[1], **SAM),
}
SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}


@ROOT.register_module()
class _BackboneOnly(BaseModel):
    """A model of one backbone, already built."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__()
        self.backbone = backbone

    def forward(self, x):
        return self.backbone(x)


def build(name):
    return copy.deepcopy(_build(name))


@functools.cache
def _build(name):
    if name in ENCODERS:
        torch.manual_seed(0)
        model = MODELS.build(ENCODERS[name])
        for parameter in model.parameters():  # tables of positions too
            if name == "sam_vit" and parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        return model.eval()
    model = build_filled(name)
    for key, parameter in model.named_parameters():
        if "layer_scale" in key:
            parameter.data.fill_(0.5)  # else a branch counts for a hundredth
    return model


def kinds(name):
    """The last parts of the names of all layers that can be targeted."""
    layers = build(name).named_modules()
    ends = {key.rpartition(".")[2] for key, m in layers if isinstance(m, (nn.Linear, nn.Conv2d))}
    return sorted(ends)


def with_adapters(name, target):
    """A network with adapters that count, in evaluation mode."""
    torch.manual_seed(0)
    cfg = dict(type="_BackboneOnly", backbone=build(name))
    model = with_lora(cfg, rank=4, alpha=8, target=target).eval()
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.3 if name in ENCODERS else 0.05)
    return model


def outputs(model, grad=False):
    torch.manual_seed(1)
    inputs = torch.randn(1, 3, 64, 96)
    with torch.set_grad_enabled(grad):
        return [x.detach() for x in model(inputs)]


def gap(found, expected):
    """The largest difference of any map, as a share of its largest value."""
    pairs = zip(found, expected, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


NAMES = [*SMALLEST.values(), *ENCODERS]
CASES = [(name, kind) for name in NAMES for kind in kinds(name)]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_evaluation_equals_the_merged_network(name, kind):
    try:
        model = with_adapters(name, [kind])
    except ConfigError as error:
        assert "cannot have an adapter" in error.what
        return
    plain = outputs(build(name))
    evaluated, trained = outputs(model), outputs(model, grad=True)
    assert merge_adapters(model) > 0
    merged = outputs(model)
    assert gap(merged, plain) > 1e-4  # the adapters do something
    assert gap(evaluated, merged) < 1e-5
    assert gap(trained, merged) < 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rsp_resnet50"])
def test_the_default_target_works_on_every_backbone(name):
    model = with_adapters(name, DEFAULT)
    evaluated = outputs(model)
    merge_adapters(model)
    assert gap(evaluated, outputs(model)) < 1e-5


def refused_kinds():
    """Layer kinds with at least one layer that peft cannot adapt."""
    found = []
    for name, kind in CASES:
        layers = [m for key, m in build(name).named_modules() if key.rpartition(".")[2] == kind]
        convs = [m for m in layers if isinstance(m, nn.Conv2d)]
        if any(m.groups > 1 or m.dilation != (1, 1) for m in convs):
            found.append((name, kind))
    return found


@pytest.mark.parametrize(("name", "kind"), refused_kinds())
def test_layers_that_peft_cannot_adapt_are_named_with_a_target_that_works(name, kind):
    with pytest.raises(ConfigError, match=r"groups=|dilation=") as caught:
        with_adapters(name, [kind])
    fix = re.search(r"r'(.*)'", caught.value.fix)
    if fix is None:
        assert caught.value.fix == "choose other layers"
        return
    model = with_adapters(name, fix.group(1))
    evaluated = outputs(model)
    merge_adapters(model)
    assert gap(evaluated, outputs(model)) < 1e-5


def test_a_padding_mode_is_refused():
    conv = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(ConfigError, match="padding_mode='reflect'"):
        with_lora(dict(type="_BackboneOnly", backbone=conv), target=["0"])
