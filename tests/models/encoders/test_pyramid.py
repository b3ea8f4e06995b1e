"""Plain encoders in the place of pyramid backbones."""

import pytest
import torch

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS

ENCODER = dict(
    type="RSMamba",
    arch=dict(embed_dims=16, num_layers=4, feedforward_channels=32),
    img_size=64,
    out_type="featmap",
    out_indices=[0, 1, 2, 3],
)


def build(**encoder):
    return MODELS.build(dict(type="PlainPyramid", encoder=dict(ENCODER, **encoder)))


@pytest.mark.parametrize("indices", [[0, 1, 2, 3], [3]])
@pytest.mark.parametrize(("patch", "strides"), [(16, (4, 8, 16, 32)), (8, (2, 4, 8, 16))])
def test_four_strides_from_four_maps_or_one(indices, patch, strides):
    model = build(out_indices=indices, patch_size=patch).eval()
    assert (model.out_channels, model.out_strides) == ((16,) * 4, strides)
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 64 // stride, 96 // stride) for stride in strides]


@pytest.mark.parametrize(
    "encoder", [dict(type="LSKNet", arch="t"), {**ENCODER, "out_indices": [0, 1]}], ids=["strides", "count"]
)
def test_encoders_that_are_not_plain_are_refused(encoder):
    with pytest.raises(ConfigError, match="one or four maps"):
        MODELS.build(dict(type="PlainPyramid", encoder=encoder))


def test_weights_of_the_encoder_load_under_its_own_config(tmp_path):
    torch.save(build().encoder.state_dict(), tmp_path / "encoder.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "encoder.pth"))
    model = build(init_cfg=init_cfg)
    model.init_weights()
    expected = torch.load(tmp_path / "encoder.pth", weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in model.encoder.state_dict().items())
