import pytest
import torch
from cd_golden import Golden

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.changer_head import FeatureFusionNeck


@pytest.mark.parametrize("policy", ["concat", "sum", "diff", "abs_diff"])
def test_equals_official_outputs(policy):
    golden = Golden("cd_feature_fusion_neck")
    inputs = golden.inputs()
    neck = golden.load(FeatureFusionNeck(policy, out_indices=(0, 1, 2, 3)))
    levels = neck([inputs[f"a{i}"] for i in range(4)], [inputs[f"b{i}"] for i in range(4)])
    for index, level in enumerate(levels):
        golden.check(f"{policy}.{index}", level, exact=True)


def test_returns_only_chosen_levels_in_their_order():
    pyramid = [torch.full((1, 1, 1, 1), float(index)) for index in range(4)]
    levels = FeatureFusionNeck("sum", out_indices=(3, 1))(pyramid, pyramid)
    assert [level.item() for level in levels] == [6.0, 2.0]


def test_unknown_policy_names_the_known_ones():
    with pytest.raises(ConfigError, match="abs_diff"):
        FeatureFusionNeck("product")
