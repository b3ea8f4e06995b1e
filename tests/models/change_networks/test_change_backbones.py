import pytest
import torch
from cd_golden import Golden
from torchvision.models import EfficientNet_B4_Weights, efficientnet_b4

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.change_networks.fc_siam import FC_EF, FC_Siam_conc, FC_Siam_diff
from rsfoundation.models.change_networks.snunet import SNUNet_ECAM
from rsfoundation.models.change_networks.tinycd import TinyCD

KINDS = {
    "cd_fc_ef": FC_EF,
    "cd_fc_siam_conc": FC_Siam_conc,
    "cd_fc_siam_diff": FC_Siam_diff,
    "cd_snunet": SNUNet_ECAM,
    "cd_tinycd": TinyCD,
}


@pytest.mark.parametrize("name", KINDS)
def test_map_equals_official_output(name):
    golden = Golden(name)
    backbone = golden.load(KINDS[name](**golden.meta["kwargs"]))
    with torch.no_grad():
        (level,) = backbone(*golden.inputs().values())
    golden.check("out0", level)


@pytest.mark.parametrize("kind", [FC_Siam_conc, FC_Siam_diff])
def test_any_size_is_padded_up(kind):
    (level,) = kind(3, base_channel=2)(*torch.rand(2, 1, 3, 37, 51))
    assert level.shape == (1, 2, 37, 51)


def test_frozen_layers_take_no_gradient():
    network = TinyCD(pretrained=False, freeze_backbone=True)
    network(*torch.rand(2, 2, 3, 32, 32))[0].sum().backward()
    assert all(weight.grad is None for weight in network._backbone.parameters())
    assert any(weight.grad is not None for weight in network._up.parameters())


def test_tinycd_reads_imagenet_weights_when_a_training_starts_and_not_before(monkeypatch):
    published = efficientnet_b4(weights=None).state_dict()
    asked = []

    def read(self, **options):
        asked.append(self)
        return published

    monkeypatch.setattr(EfficientNet_B4_Weights, "get_state_dict", read)
    network = TinyCD(pretrained=True)
    assert not asked
    network.init_weights()
    assert asked == [EfficientNet_B4_Weights.DEFAULT]
    layers = network._backbone.state_dict()
    assert layers and all(torch.equal(value, published[f"features.{key}"]) for key, value in layers.items())


def test_tinycd_refuses_other_backbones():
    with pytest.raises(ConfigError, match="efficientnet_b0"):
        TinyCD(bkbn_name="efficientnet_b0", pretrained=False)
