import pytest
import torch

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.necks.rs_aggregators import (
    LN2d,
    PseudoFeatureAggregator,
    RSFeatureAggregator,
    RSFeaturePaAggregator,
    encoder_channels,
)
from rsfoundation.models.necks.rs_fpn import RSSimpleFPN, RSSimplePaFPN
from rsfoundation.registry import MODELS

NORM = dict(type="rsfoundation.LN2d")


def test_ln2d_equals_layer_norm_over_channels():
    x = torch.randn(2, 5, 3, 4)
    expected = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (5,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(LN2d(5)(x), expected)


@pytest.mark.parametrize(
    ("name", "count", "width"),
    [
        ("base", 13, 768),
        ("facebook/sam-vit-large", 25, 1024),
        ("huge", 33, 1280),
        ("rsmamba_small", 16, 256),
        ("rsmamba_large1", 24, 320),
        ("rsmamba_uhuge2", 48, 256),
    ],
)
def test_channel_tables(name, count, width):
    assert encoder_channels(name) == [width] * count


def test_unknown_encoder_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'rsmamba_base'"):
        encoder_channels("rsmamba_bse")


@pytest.mark.parametrize("kind", [RSFeatureAggregator, RSFeaturePaAggregator])
def test_aggregators_take_maps_or_a_pair(kind):
    torch.manual_seed(0)
    aggregator = kind([6, 6, 6], hidden_channels=4, out_channels=8, select_layers=[0, 2]).eval()
    maps = [torch.randn(1, 5, 7, 6) for _ in range(3)]
    output = aggregator(maps)
    assert output.shape == (1, 8, 5, 7)
    assert torch.equal(aggregator((torch.zeros(1), tuple(maps))), output)
    assert torch.equal(aggregator([maps[0], torch.zeros(1, 5, 7, 6), maps[2]]), output)


def test_wrong_numbers_of_maps_and_layers_are_named():
    aggregator = RSFeatureAggregator([6, 6], hidden_channels=4, select_layers=[0, 1])
    with pytest.raises(ConfigError, match="gave 3 maps, the aggregator was built for 2"):
        aggregator([torch.zeros(1, 2, 2, 6)] * 3)
    with pytest.raises(ConfigError, match=r"select_layers \[2\] do not fit 2"):
        RSFeatureAggregator([6, 6], select_layers=[2])


@pytest.mark.parametrize("kind", [RSSimpleFPN, RSSimplePaFPN])
@pytest.mark.parametrize(("scales", "outputs"), [(4, 5), (3, 3)])
def test_pyramid_sizes(kind, scales, outputs):
    pyramid = kind(16, [4, 8, 16, 16][:scales], 12, outputs, norm_cfg=NORM)
    levels = pyramid(torch.randn(1, 16, 8, 8))
    assert [level.shape[-1] for level in levels] == [32, 16, 8, 4, 2][:outputs]
    assert {level.shape[1] for level in levels} == {12}


def test_more_scales_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="5 in_channels"):
        RSSimpleFPN(16, [4, 8, 16, 16, 16], 12, 5)


def test_neck_of_a_config():
    cfg = dict(
        type="rsfoundation.RSFPN",
        feature_aggregator=dict(type="rsfoundation.PseudoFeatureAggregator", in_channels=8, out_channels=16),
        feature_spliter=dict(
            type="rsfoundation.RSSimpleFPN",
            backbone_channel=16,
            in_channels=[4, 8],
            out_channels=12,
            num_outs=2,
            norm_cfg=NORM,
        ),
    )
    neck = MODELS.build(cfg)
    keys = list(neck.state_dict())
    assert "feature_aggregator.channel_fusion.0.weight" in keys
    assert "feature_spliter.lateral_convs.1.norm_layer.bias" in keys
    assert len(neck([torch.randn(1, 8, 4, 4)])) == 2
    cfg.pop("feature_spliter")
    (only,) = MODELS.build(cfg)([torch.randn(1, 8, 4, 4)])
    assert only.shape == (1, 16, 4, 4)


def test_pseudo_aggregator_takes_one_map():
    with pytest.raises(ValueError, match="unpack"):
        PseudoFeatureAggregator(8)([torch.zeros(1, 8, 2, 2)] * 2)
