"""SAM's image encoder: equal to the installed transformers, at any size, frozen, exported, adapted."""

import pytest
import torch
from hf_sam import VISION, assert_equal_maps, hf_sam, randomise

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.encoders import sam_attention
from rsfoundation.models.encoders.sam_attention import join_windows, relative_table, split_windows
from rsfoundation.models.encoders.sam_vit import ARCHS, HiddenStates, SAMViT
from rsfoundation.registry import MODELS


def tiny(**options):
    return randomise(MODELS.build(dict(type="rsfoundation.SAMViT", **{**VISION, **options})))


def same_weights(encoder, hf):
    encoder.load_state_dict(hf.vision_encoder.state_dict())
    return encoder.eval()


SIZES = [
    dict(),
    dict(image_size=80, num_hidden_layers=2, window_size=2, global_attn_indexes=[0]),
    dict(window_size=14, num_attention_heads=2, qkv_bias=False, num_hidden_layers=5, global_attn_indexes=[]),
    dict(patch_size=8, image_size=64, hidden_size=48, use_rel_pos=False, mlp_dim=None, mlp_ratio=2.0),
    dict(use_abs_pos=False, num_channels=5, layer_norm_eps=1e-3, global_attn_indexes=[0, 1, 2]),
]


@pytest.mark.parametrize("fields", SIZES)
def test_equals_transformers(fields):
    hf = hf_sam(**fields)
    encoder = same_weights(tiny(**fields, output_hidden_states=True), hf)
    side = encoder.grid[0] * encoder.patch_size
    image = torch.randn(2, fields.get("num_channels", 3), side, side, requires_grad=True)
    expected = hf.vision_encoder(image, output_hidden_states=True, return_dict=True)
    with torch.no_grad():
        inference = encoder(image)
    trained = encoder(image)
    for found in (inference, trained):
        assert isinstance(found, HiddenStates)
        assert_equal_maps(found.last_hidden_state, expected.last_hidden_state)
        assert len(found.hidden_states) == len(encoder.layers) + 1
        for state, wanted in zip(found.hidden_states, expected.hidden_states, strict=True):
            assert_equal_maps(state, wanted)
    weights = torch.randn_like(expected.last_hidden_state)
    (of_expected,) = torch.autograd.grad((expected.last_hidden_state * weights).sum(), image)
    (of_found,) = torch.autograd.grad((trained.last_hidden_state * weights).sum(), image)
    assert_equal_maps(of_found, of_expected, 1e-4)


@pytest.mark.parametrize(("arch", "million"), [("base", 89.67), ("large", 308.28), ("huge", 637.03)])
def test_published_sizes(arch, million):
    with torch.device("meta"):
        encoder = SAMViT(arch)
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(million, abs=0.01)
    assert [layer.attn.window for layer in encoder.layers].count(0) == 4
    assert encoder.out_channels == (256,)


def test_chunks_of_attention_change_nothing(monkeypatch):
    encoder, image = tiny(use_rel_pos=True), torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        whole = encoder(image)[0]
    expected = torch.autograd.grad(encoder(image)[0].square().sum(), encoder.layers[1].attn.rel_pos_h)[0]
    for limit in (1, 4 * 64 * 10, 4 * 64 * 64 * 3):  # one query, ten queries, three heads
        monkeypatch.setattr(sam_attention, "_SCORE_BYTES", limit)
        with torch.no_grad():
            assert_equal_maps(encoder(image)[0], whole)
        found = torch.autograd.grad(encoder(image)[0].square().sum(), encoder.layers[1].attn.rel_pos_h)[0]
        assert_equal_maps(found, expected, 1e-4)


@pytest.mark.parametrize("size", [(128, 96), (96, 160), (120, 70)])
def test_any_image_size(size):
    encoder = tiny()
    with torch.no_grad():
        (found,) = encoder(torch.randn(1, 3, *size))
    assert found.shape == (1, 32, -(-size[0] // 16), -(-size[1] // 16))
    assert found.isfinite().all()


def test_another_size_is_that_of_a_network_with_resampled_tables():
    small, large = tiny(), tiny(image_size=192)
    large.load_state_dict(small.state_dict())  # resamples
    assert large.pos_embed.shape == (1, 12, 12, 64)
    assert large.layers[1].attn.rel_pos_h.shape == (23, 16)
    assert torch.equal(large.layers[0].attn.rel_pos_h, small.layers[0].attn.rel_pos_h)
    image = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        assert_equal_maps(small(image)[0], large(image)[0])


def test_relative_table_by_its_definition():
    table = torch.arange(7.0)[:, None].repeat(1, 2)
    found = relative_table(table, 4)
    for y in range(4):
        for x in range(4):
            assert found[y, x].tolist() == [y - x + 3] * 2
    assert relative_table(table, 3).shape == (3, 3, 2)


def test_windows_are_joined_again():
    x, padding = torch.randn(2, 5, 7, 3), torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3)
    windows, padded = split_windows(x, 3, padding)
    assert windows.shape == (2 * 2 * 3, 3, 3, 3) and padded == (6, 9)
    joined = join_windows(windows, 3, padded)
    assert torch.equal(joined[:, :5, :7], x)
    assert (joined[:, 5:] == padding).all() and (joined[:, :, 7:] == padding).all()


def test_maps_of_blocks_leave_the_neck_out():
    encoder, image = tiny(out_indices=(0, -1)), torch.randn(1, 3, 128, 128)
    assert encoder.out_channels == (64, 64) and encoder.out_strides == (16, 16)
    assert not any(p.requires_grad for p in encoder.neck.parameters())
    states = tiny(output_hidden_states=True)(image).hidden_states
    for found, state in zip(encoder(image), (states[1], states[3]), strict=True):
        assert torch.equal(found, state.permute(0, 3, 1, 2))
    assert torch.equal(encoder.encode(image).tokens, states[3].flatten(1, 2))
    assert torch.equal(tiny().encode(image).maps[0], tiny()(image)[0])


def test_frozen_blocks():
    encoder = tiny(frozen_stages=2).train()
    free = {
        name.split(".")[0] + name.split(".")[1] for name, p in encoder.named_parameters() if p.requires_grad
    }
    assert free == {"layers2", "neckconv1", "necklayer_norm1", "neckconv2", "necklayer_norm2"}
    assert not encoder.layers[1].training and encoder.layers[2].training
    assert not any(p.requires_grad for p in tiny(frozen_stages=3).parameters())


def test_gradient_checkpointing_changes_nothing():
    image = torch.randn(2, 3, 128, 128)

    def gradients(with_cp):
        encoder = tiny(with_cp=with_cp).train()
        encoder(image)[0].square().mean().backward()
        return {name: p.grad for name, p in encoder.named_parameters()}

    plain, frugal = gradients(False), gradients(True)
    assert all(gradient is not None for gradient in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(frugal[name], gradient, msg=name)


def test_autocast_stays_close_to_float32():
    encoder, image = tiny(), torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = encoder(image)[0]
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(image)[0].float()
    assert_equal_maps(found, expected, 0.05)


def test_export_computes_the_same():
    encoder, image = tiny(), torch.randn(1, 3, 128, 96)
    program = torch.export.export(encoder, (image,))
    with torch.no_grad():
        assert_equal_maps(program.module()(image)[0], encoder(image)[0])


def test_general_fields_of_a_hugging_face_config_are_ignored():
    transformers = pytest.importorskip("transformers", reason="comparison: pip install transformers")
    encoder = SAMViT(**transformers.SamVisionConfig(**VISION).to_dict())
    assert len(encoder.layers) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(arch="bse"), "did you mean 'base'"),
        (dict(hidden_sise=64), "did you mean 'hidden_size'"),
        (dict(num_attention_heads=7), "7 heads do not divide"),
        (dict(out_indices=(3,)), "do not fit 3 blocks"),
        (dict(frozen_stages=4), "is not in -1..3 blocks"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        SAMViT(**{**VISION, **options})


def test_is_registered_and_knows_all_sizes():
    assert MODELS.get("rsfoundation.SAMViT") is SAMViT
    assert set(ARCHS) == {"base", "large", "huge"}
