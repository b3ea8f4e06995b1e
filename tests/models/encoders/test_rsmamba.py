import pytest
import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.encoders.base import resample_table
from rsfoundation.models.encoders.rsmamba import (
    ARCHS,
    MambaMixer,
    RSMamba,
    insert_token,
    mix_along_paths,
    path_gates,
    remove_token,
)
from rsfoundation.registry import MODELS

SMALL = dict(embed_dims=32, num_layers=3, feedforward_channels=48)


def small(**options):
    torch.manual_seed(0)
    return RSMamba(**dict(dict(arch=SMALL, img_size=64, out_type="featmap"), **options)).eval()


@pytest.mark.parametrize(
    ("out_type", "shape"),
    [
        ("featmap", (2, 32, 4, 4)),
        ("featmap_hwc", (2, 4, 4, 32)),
        ("raw", (2, 17, 32)),
        ("cls_token", (2, 32)),
        ("avg_featmap", (2, 32)),
    ],
)
def test_output_forms(out_type, shape):
    encoder = small(out_type=out_type, cls_position="head", out_indices=(0, -1))
    outputs = encoder(torch.randn(2, 3, 64, 64))
    assert [tuple(output.shape) for output in outputs] == [shape, shape]


def test_declares_what_it_returns():
    encoder = small(out_indices=(-1, 0))
    assert encoder.out_channels == (32, 32)
    assert encoder.out_strides == (16, 16)


def test_outputs_come_in_block_order():
    image = torch.randn(1, 3, 64, 64)
    first, last = small(out_indices=(-1, 0))(image)
    assert torch.equal(first, small(out_indices=0)(image)[0])
    assert torch.equal(last, small(out_indices=2)(image)[0])


def test_only_the_last_output_is_normalised():
    middle, last = small(out_indices=(1, 2))(torch.randn(1, 3, 64, 64))
    assert last.mean(1).abs().max() < 1e-5
    assert middle.mean(1).abs().max() > 1e-3


@pytest.mark.parametrize("path_type", ["forward", "forward_reverse_mean", "forward_reverse_gate"])
def test_paths_without_shuffle_repeat(path_type):
    encoder, image = small(path_type=path_type), torch.randn(1, 3, 64, 64)
    assert torch.equal(encoder(image)[0], encoder(image)[0])


@pytest.mark.parametrize("path_type", ["forward_reverse_shuffle_mean", "forward_reverse_shuffle_gate"])
def test_shuffled_paths_differ_unless_seeded(path_type):
    encoder, image = small(path_type=path_type), torch.randn(1, 3, 64, 64)
    outputs = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        outputs.append(encoder(image)[0])
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("path_type", ["forward_reverse_mean", "forward_reverse_shuffle_gate"])
def test_an_order_free_mixer_gives_itself_along_every_path(path_type):
    tokens = torch.randn(2, 5, 4)
    gates = path_gates(path_type, width=4, depth=1)
    gate = (lambda means: gates[0](torch.cat(means, dim=-1))) if gates else None
    mixed = mix_along_paths(tokens, path_type, lambda batch: 3 * batch, gate)
    torch.testing.assert_close(mixed, 3 * tokens)


@pytest.mark.parametrize(
    ("path_type", "alike"), [("forward_reverse_mean", True), ("forward_reverse_gate", False)]
)
def test_the_mean_of_both_directions_does_not_tell_them_apart(path_type, alike):
    """Only the position table does: docs/distillation.md says what it costs a student."""
    encoder = small(path_type=path_type)
    for gate in encoder.gate_layers:
        gate[0].weight.data.normal_(0, 3)
    tokens = torch.randn(1, 16, 32)
    with torch.no_grad():
        found, turned = (encoder.run_layer(0, one) for one in (tokens, tokens.flip(1)))
    assert torch.allclose(found, turned.flip(1), atol=1e-5) == alike


def test_only_the_reverse_path_sees_later_tokens():
    image = torch.randn(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 48:, 48:] += 1  # the last token
    for path_type, moves in [("forward", False), ("forward_reverse_mean", True)]:
        encoder = small(path_type=path_type)
        difference = (encoder(image)[0] - encoder(changed)[0])[..., 0, 0]
        assert bool(difference.abs().max() > 0) is moves


@pytest.mark.parametrize("cls_position", ["head", "tail", "middle"])
def test_class_token_of_an_even_grid_is_the_one_put_in(cls_position):
    encoder = small(cls_position=cls_position, out_type="cls_token", pe_type="none", final_norm=False)
    torch.nn.init.constant_(encoder.cls_token, 7.0)
    for layer in encoder.layers:
        torch.nn.init.zeros_(layer.out_proj.weight)
    assert torch.equal(encoder(torch.randn(1, 3, 64, 64))[0], torch.full((1, 32), 7.0))


def test_middle_class_token_of_an_odd_grid_is_read_one_too_late():
    encoder = small(
        cls_position="middle", out_type="cls_token", img_size=48, pe_type="none", final_norm=False
    )
    torch.nn.init.constant_(encoder.cls_token, 7.0)
    for layer in encoder.layers:
        torch.nn.init.zeros_(layer.out_proj.weight)
    image = torch.randn(1, 3, 48, 48)
    patches, _ = encoder.patch_embed(image)  # nine: inserted at 4, read at 5, where patch 4 is
    torch.testing.assert_close(encoder(image)[0], patches[:, 4])


def test_another_image_size_resamples_the_positions():
    encoder = small()
    torch.nn.init.constant_(encoder.pos_embed, 0.5)
    (wide,) = encoder(torch.randn(1, 3, 64, 96))
    assert wide.shape == (1, 32, 4, 6)
    torch.testing.assert_close(encoder.positions((4, 6)), torch.full((1, 24, 32), 0.5))


def test_size_not_divisible_by_the_patch_is_padded():
    assert small()(torch.randn(1, 3, 50, 64))[0].shape == (1, 32, 4, 4)


@pytest.mark.parametrize("cls_position", ["none", "head", "middle", "tail"])
def test_checkpoint_of_another_size_loads(cls_position):
    source = small(img_size=96, cls_position=cls_position)
    target = small(img_size=64, cls_position=cls_position)
    target.load_state_dict(source.state_dict())
    assert target.pos_embed.shape[1] == 16 + (cls_position != "none")
    if cls_position == "tail":
        assert torch.equal(target.pos_embed[:, -1], source.pos_embed[:, -1])


def test_flat_checkpoint_with_module_prefix_loads(tmp_path):
    source = small()
    torch.save({f"module.{k}": v for k, v in source.state_dict().items()}, tmp_path / "student.pth")
    torch.manual_seed(1)
    target = RSMamba(arch=SMALL, img_size=64, out_type="featmap").eval()
    load_checkpoint(target, str(tmp_path / "student.pth"), strict=True)
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(source(image)[0], target(image)[0])


def test_table_and_token_helpers():
    table = torch.arange(4.0).reshape(1, 4, 1)
    assert resample_table(table, (2, 2), (2, 2)) is table
    assert resample_table(table, (2, 2), (1, 2), "nearest").flatten().tolist() == [0.0, 1.0]
    token, rest = remove_token(insert_token(table, torch.full((1, 1, 1), 9.0), 2), 2)
    assert token.item() == 9.0
    assert torch.equal(rest, table)


def _trainable(encoder):
    return {name.split(".weight")[0] for name, p in encoder.named_parameters() if p.requires_grad}


def test_frozen_stages():
    free = _trainable(small(frozen_stages=2, path_type="forward_reverse_gate"))
    assert "pos_embed" not in free
    assert not any(name.startswith(("patch_embed", "pre_norm", "layers.0", "layers.1")) for name in free)
    assert {"layers.2.in_proj", "gate_layers.2.0", "ln1"} <= free
    assert "gate_layers.1.0" not in free
    assert _trainable(small(frozen_stages=3)) == set()


def test_frozen_parts_stay_in_evaluation_mode():
    encoder = small(frozen_stages=1, drop_rate=0.5).train()
    assert not encoder.drop_after_pos.training
    assert not encoder.layers[0].training
    assert encoder.layers[1].training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(arch="bse"), "did you mean 'base'"),
        (dict(arch=dict(embed_dims=8)), "needs the keys"),
        (dict(path_type="forward_revers_mean"), "did you mean 'forward_reverse_mean'"),
        (dict(cls_position="head_tail"), "is not one of none, head"),
        (dict(pe_type="sine"), "is not one of learnable"),
        (dict(out_type="cls_token"), "needs a class token"),
        (dict(out_indices=3), "do not fit 3 blocks"),
        (dict(frozen_stages=4), "is not in -1..3 blocks"),
        (dict(dt_init="mambo"), "dt_init 'mambo'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        small(**options)


def test_is_registered_and_knows_all_sizes():
    assert MODELS.get("rsfoundation.RSMamba") is RSMamba
    assert MODELS.get("rsfoundation.MambaMixer") is MambaMixer
    assert set(ARCHS) == {"s", "small", "b", "base", "l", "large", "h", "huge", "u", "uhuge2"}


def _plain_mixer(mixer, tokens):
    """The recurrence of the paper, token by token and channel by channel."""
    x, z = mixer.in_proj(tokens).chunk(2, dim=-1)
    taps = mixer.conv1d.weight[:, 0]
    padded = F.pad(x, (0, 0, taps.shape[1] - 1, 0))
    state, outputs = torch.zeros(*x[:, 0].shape, mixer.state_size), []
    for t in range(tokens.shape[1]):
        c = F.silu(mixer.conv1d.bias + (padded[:, t : t + taps.shape[1]] * taps.T).sum(1))
        step, b, read = mixer.x_proj(c).split([mixer.time_step_rank, mixer.state_size, mixer.state_size], -1)
        step = F.softplus(mixer.dt_proj(step))[..., None]
        state = torch.exp(-step * mixer.A_log.exp()) * state + step * c[..., None] * b[:, None]
        outputs.append((state @ read[..., None])[..., 0] + mixer.D * c)
    return mixer.out_proj(torch.stack(outputs, 1) * F.silu(z))


def test_mixer_follows_the_recurrence():
    torch.manual_seed(0)
    mixer, tokens = MambaMixer(8, 12, state_size=4), torch.randn(2, 7, 8)
    torch.testing.assert_close(mixer(tokens), _plain_mixer(mixer, tokens))


def test_mixer_options():
    mixer = MambaMixer(8, 12, use_conv_bias=False, use_bias=True, hidden_act="gelu", conv_kernel=2)
    assert mixer.conv1d.bias is None
    assert mixer.in_proj.bias is not None
    assert mixer(torch.randn(1, 3, 8)).shape == (1, 3, 8)


def test_first_steps_are_drawn_from_the_papers_range():
    steps = F.softplus(MambaMixer(64, 512).dt_proj.bias)
    assert steps.min() >= 9e-4
    assert steps.max() <= 0.11
    assert F.softplus(MambaMixer(64, 512, dt_init="torch").dt_proj.bias).min() > 0.4


def test_encoder_learns_through_every_weight():
    encoder = small(path_type="forward_reverse_gate", cls_position="head").train()
    encoder(torch.randn(2, 3, 64, 64))[0].square().mean().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


def test_autocast_stays_close_to_float32():
    encoder, image = small(), torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder(image)[0]
    torch.testing.assert_close(low.float(), encoder(image)[0], atol=0.1, rtol=0.1)


@pytest.mark.parametrize("path_type", ["forward_reverse_gate", "forward_reverse_shuffle_mean"])
def test_gradient_checkpointing_changes_nothing(path_type):
    image = torch.randn(2, 3, 64, 64)

    def gradients(with_cp):
        torch.manual_seed(0)
        encoder = small(path_type=path_type, with_cp=with_cp).train()
        encoder(image)[0].square().mean().backward()
        return {name: p.grad for name, p in encoder.named_parameters()}

    plain, frugal = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(frugal[name], gradient, msg=name)


FAST = [dict(), dict(state_size=5, conv_kernel=3), dict(use_conv_bias=False, use_bias=True, time_step_rank=3)]


@pytest.mark.parametrize("layer_cfgs", FAST)
@pytest.mark.parametrize("path_type", ["forward", "forward_reverse_mean", "forward_reverse_gate"])
def test_inference_equals_the_training_graph(path_type, layer_cfgs):
    encoder = small(path_type=path_type, layer_cfgs=layer_cfgs, dt_init="torch", cls_position="head")
    image = torch.randn(2, 3, 64, 96)
    expected = encoder(image)[0]
    with torch.no_grad():
        found = encoder(image)[0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=2e-5)


def test_only_plain_layers_of_silu_take_the_fast_way():
    mixer, tokens = MambaMixer(8, 12).eval(), torch.randn(1, 5, 8)
    with torch.no_grad():
        assert mixer.is_fast(tokens)
        assert not mixer.is_fast(tokens.double())
        assert not MambaMixer(8, 12, hidden_act="gelu").eval().is_fast(tokens)
        mixer.dt_proj = torch.nn.Sequential(mixer.dt_proj)
        assert not mixer.is_fast(tokens)
    assert not MambaMixer(8, 12).eval().is_fast(tokens)  # gradients


def test_a_mixer_alone_is_the_same_with_and_without_gradients():
    torch.manual_seed(0)
    mixer, tokens = MambaMixer(16, 72, dt_init="torch").eval(), torch.randn(2, 33, 16)
    expected = mixer(tokens)
    with torch.no_grad():
        torch.testing.assert_close(mixer(tokens), expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_a_time", [1, 5, 64])
def test_pieces_of_a_sequence_change_nothing(at_a_time, monkeypatch):
    encoder, image = small(dt_init="torch"), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = encoder(image)[0]
        monkeypatch.setattr("rsfoundation.models.encoders.rsmamba._TOKENS_AT_A_TIME", at_a_time)
        torch.testing.assert_close(encoder(image)[0], expected, rtol=1e-5, atol=1e-6)
