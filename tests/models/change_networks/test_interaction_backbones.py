import copy

import pytest
import torch
from backbone_golden import NETWORKS, build_filled
from cd_golden import Golden
from mmengine.registry import DefaultScope
from mmseg.models.backbones import ResNetV1c

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.change_networks.interaction import (
    ChannelExchange,
    IA_MixVisionTransformer,
    IA_ResNeSt,
    IA_ResNet,
    IA_ResNetV1c,
    SpatialExchange,
)
from rsfoundation.registry import MODELS


@pytest.mark.parametrize(
    ("name", "kind"),
    [("cd_ia_resnetv1c18", IA_ResNetV1c), ("cd_ia_mit", IA_MixVisionTransformer)],
)
def test_levels_equal_official_outputs(name, kind):
    golden = Golden(name)
    with DefaultScope.overwrite_default_scope("rsfoundation"):
        backbone = golden.load(kind(**golden.meta["kwargs"]))
    with torch.no_grad():
        levels = backbone(*golden.inputs().values())
    for index, level in enumerate(levels):
        golden.check(f"out{index}", level)


def test_without_interaction_each_half_is_the_plain_backbone():
    plain, both = ResNetV1c(depth=18), IA_ResNetV1c(depth=18)
    for backbone in (plain, both):
        backbone.eval()  # mmseg's returns nothing
    both.load_state_dict(plain.state_dict())
    x1, x2 = torch.rand(2, 1, 3, 64, 64)
    with torch.no_grad():
        for level, mine, other in zip(both(x1, x2), plain(x1), plain(x2), strict=True):
            torch.testing.assert_close(level, torch.cat([mine, other], dim=1))


def test_plain_stem_has_a_forward_too():
    backbone = IA_ResNet(depth=18, out_indices=(0, 3))
    with torch.no_grad():
        levels = backbone(*torch.rand(2, 2, 3, 64, 64))
    assert [level.shape[1] for level in levels] == [128, 1024]


def test_one_layer_per_stage_is_asked_for():
    with pytest.raises(ConfigError, match="2 interaction layers for 4 stages"):
        IA_ResNet(depth=18, interaction_cfg=(None, None))


def test_split_attention_backbone_runs_both_dates():
    backbone = IA_ResNeSt(depth=50, stem_channels=64)
    backbone.eval()  # mmseg's returns nothing
    with torch.no_grad():
        levels = backbone(*torch.rand(2, 1, 3, 64, 64))
    assert [level.shape[1] for level in levels] == [512, 1024, 2048, 4096]


EX = (
    None,
    dict(type="SpatialExchange", p=0.5),
    dict(type="ChannelExchange", p=0.5),
    dict(type="ChannelExchange"),
)
SMALLEST = {cfg["type"]: name for name, cfg in reversed(NETWORKS.items())}


def interacting(name, interaction_cfg, **options):
    return MODELS.build(
        dict(
            type="InteractionBackbone",
            backbone={**NETWORKS[name], **options},
            interaction_cfg=interaction_cfg,
        )
    )


@pytest.mark.parametrize("name", SMALLEST.values())
def test_every_backbone_exchanges_between_its_stages(name):
    plain, both = build_filled(name), interacting(name, EX).eval()
    both.load_state_dict(plain.state_dict())  # strict: the names are the plain backbone's
    x1, x2 = torch.randn(2, 2, 3, 70, 96)
    layers = [lambda a, b: (a, b), SpatialExchange(), ChannelExchange(), ChannelExchange()]
    with torch.no_grad():
        levels = both(x1, x2)
        first, second = plain.run_stem(x1), plain.run_stem(x2)
        for stage, (layer, level) in enumerate(zip(layers, levels, strict=True)):
            first, second = layer(plain.run_stage(stage, first), plain.run_stage(stage, second))
            expected = torch.cat(
                [plain.stage_output(stage, date, (70, 96)) for date in (first, second)], dim=1
            )
            torch.testing.assert_close(level, expected, rtol=1e-3, atol=1e-4)
    assert both.out_channels == tuple(2 * channels for channels in plain.out_channels)


@pytest.mark.parametrize("name", SMALLEST.values())
def test_without_layers_each_half_is_the_plain_backbone_in_training_too(name):
    torch.manual_seed(0)
    x1, x2 = torch.randn(2, 2, 3, 64, 64)
    plain, both = build_filled(name).train(), interacting(name, (None,) * 4).train()
    both.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    for level, mine, other in zip(both(x1, x2), plain(x1), plain(x2), strict=True):
        torch.testing.assert_close(level, torch.cat([mine, other], dim=1), rtol=1e-4, atol=1e-4)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(both.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_layers_with_weights_add_keys_of_their_own():
    gates = [dict(type="Aggregation_distribution", channels=c) for c in (32, 64, 160, 256)]
    model = interacting("lsknet_t", gates)
    extra = model.state_dict().keys() - MODELS.build(NETWORKS["lsknet_t"]).state_dict().keys()
    assert extra and all(key.startswith("ccs.") for key in extra)


def test_a_plain_encoder_has_no_stages_to_interact_between():
    with pytest.raises(ConfigError, match="PlainPyramid has no stages"):
        MODELS.build(dict(type="InteractionBackbone", backbone=dict(type="PlainPyramid")))


def test_a_copy_of_an_interacting_backbone_is_one_too():
    """Averaged weights are kept in a deep copy."""
    model = interacting("lsknet_t", EX).eval()
    x1, x2 = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        for mine, other in zip(copy.deepcopy(model)(x1, x2), model(x1, x2), strict=True):
            assert torch.equal(mine, other)
