import pytest
import torch
from cd_golden import Golden
from mmengine.registry import DefaultScope
from mmseg.models.backbones import ResNetV1c

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.change_networks.interaction import IA_MixVisionTransformer, IA_ResNet, IA_ResNetV1c


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
