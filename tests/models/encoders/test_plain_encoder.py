"""What every plain encoder shares, on each of them: typed outputs, a pyramid, checkpoints of another size."""

import pytest
import torch

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.encoders.base import EncoderOutput, PlainEncoder
from rsfoundation.registry import MODELS

ENCODERS = {
    "rsmamba": dict(
        type="RSMamba", arch=dict(embed_dims=16, num_layers=4, feedforward_channels=32), img_size=64
    ),
    "rsmamba_cls": dict(
        type="RSMamba",
        arch=dict(embed_dims=16, num_layers=4, feedforward_channels=32),
        img_size=64,
        cls_position="head",
    ),
}
SAM = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, global_attn_indexes=[1], window_size=3)
ENCODERS["sam"] = dict(type="SAMViT", image_size=64, output_channels=8, out_indices=-1, **SAM)
NAMES = pytest.mark.parametrize("name", ENCODERS)


def build(name, **options):
    torch.manual_seed(0)
    return MODELS.build({**ENCODERS[name], **options}).eval()


@NAMES
def test_outputs_are_typed(name):
    encoder = build(name, out_indices=(1, -1))
    assert isinstance(encoder, PlainEncoder)
    with torch.no_grad():
        output = encoder.encode(torch.randn(2, 3, 64, 96))
    assert isinstance(output, EncoderOutput)
    width, extra = encoder.out_channels[0], int(name.endswith("_cls"))
    assert [tuple(x.shape) for x in output.maps] == [(2, width, 4, 6)] * 2
    assert output.tokens.shape == (2, 24 + extra, width)
    assert output.position.shape == (1, 24 + extra, width)
    patches = output.tokens[:, extra:].transpose(1, 2).unflatten(2, (4, 6))
    torch.testing.assert_close(output.maps[-1], patches)


@pytest.mark.parametrize("name", ["rsmamba", "rsmamba_cls"])
def test_the_maps_do_not_depend_on_the_kind_of_output(name):
    image = torch.randn(1, 3, 64, 64)
    expected = build(name, out_type="featmap")(image)
    for kind in ("featmap_hwc", "raw", "avg_featmap"):
        for found, wanted in zip(build(name, out_type=kind).encode(image).maps, expected, strict=True):
            assert torch.equal(found, wanted)


@NAMES
def test_a_pyramid_of_any_of_them(name):
    encoder = {**ENCODERS[name], "out_indices": [0, 1, 2, 3]}
    model = MODELS.build(dict(type="PlainPyramid", encoder=encoder)).eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)]


@NAMES
def test_a_checkpoint_of_another_size_is_resampled_and_reported(name, tmp_path):
    torch.save(build(name, img_size=96).state_dict(), tmp_path / "large.pth")
    encoder = build(name, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "large.pth")))
    encoder.init_weights()
    tables = {"pos_embed"} | (
        {"layers.1.attn.rel_pos_h", "layers.1.attn.rel_pos_w"} if name == "sam" else set()
    )
    assert set(encoder.load_report.resized) == tables
    assert not encoder.load_report.missing and not encoder.load_report.skipped
    plain = build(name)
    plain.load_state_dict(torch.load(tmp_path / "large.pth", weights_only=True))
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in encoder.state_dict().items())


@NAMES
def test_positions_of_a_rectangular_checkpoint_that_cannot_be_read_are_skipped(name):
    encoder = build(name)
    assert encoder.fit_checkpoint("pos_embed", torch.zeros(1, 3, encoder.out_channels[0])) is None
    assert encoder.fit_checkpoint("pos_embed", torch.zeros(1, 36, 5)) is None


@NAMES
@pytest.mark.parametrize("indices", [(), 4, (0, -5)])
def test_blocks_that_do_not_exist_are_refused(name, indices):
    with pytest.raises(ConfigError, match="do not fit 4 blocks"):
        build(name, out_indices=indices)


@NAMES
def test_positions_are_frozen_with_the_first_block(name):
    frozen = build(name, frozen_stages=1)
    assert not frozen.pos_embed.requires_grad
    assert build(name, frozen_stages=0).pos_embed.requires_grad
    assert {p.requires_grad for p in frozen.layers[0].parameters()} == {False}
    assert {p.requires_grad for p in frozen.layers[1].parameters()} == {True}
