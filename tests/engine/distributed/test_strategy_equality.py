"""The same config trains alike under every strategy: clipping, batch norm in 16 bits, unused parameters."""

import pytest
import torch
from launch import finish, start
from scenarios import BF16, ZERO, check_close, losses, weights
from strategy_nets import replaced, write_config

DECAYED = {
    **replaced("UnusedNet"),
    "optim_wrapper": dict(optimizer=dict(_delete_=True, type="AdamW", lr=0.01, weight_decay=0.05)),
}
HALF = {
    **dict.fromkeys(ZERO, BF16),
    "fsdp": ["strategy.param_dtype=bfloat16"],
}
BACKBONES = {
    "lsknet": dict(type="rsfoundation.LSKNet", arch="t"),
    "lwganet": dict(type="rsfoundation.LWGANet", arch="l0"),
    "vitae": dict(type="rsfoundation.ViTAEv2", arch="s"),
}
_UNUSED_DDP = {**DECAYED, "find_unused_parameters": True}


def _scenarios(backbones):
    found = {"steep-ddp": dict(strategy="ddp", set=replaced("SteepNet"))}
    for name in ("fsdp", *ZERO):
        found[f"steep-{name}"] = dict(strategy=name, set=replaced("SteepNet"))
    clipped = {**replaced("SteepNet"), "optim_wrapper": dict(clip_grad=dict(max_norm=1.0))}
    found["clipped"] = dict(strategy=ZERO[1], set=clipped)
    found["unused-ddp"] = dict(strategy="ddp", set=_UNUSED_DDP)
    for name in ZERO:
        found[f"unused-{name}"] = dict(strategy=name, set=DECAYED)
    found["nested-ddp"] = dict(strategy="ddp", set=replaced("NestedNet"))
    nested = dict(set=replaced("NestedNet"), options=["strategy.wrap_numel=1"])
    found["nested-fsdp"] = dict(strategy="fsdp", **nested)
    found["norm-ddp"] = dict(strategy="ddp", set=replaced("NormNet"))
    for name, options in HALF.items():
        found[f"norm-{name}"] = dict(strategy=name, set=replaced("NormNet"))
        found[f"norm-{name}-half"] = dict(strategy=name, set=replaced("NormNet"), options=options)
        for short in backbones:
            model = replaced("NormNet", backbone=BACKBONES[short])
            found[f"{short}-{name}-half"] = dict(strategy=name, set=model, options=options)
    return found


def _train(folder, backbones):
    config = write_config(folder)
    finish(start(folder, _scenarios(backbones), config), folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return _train(tmp_path_factory.mktemp("nets"), ())


@pytest.mark.parametrize("name", ["ddp", "fsdp", *ZERO])
def test_gradients_are_clipped_only_where_the_config_says_so(trained, name):
    """Six steps of SGD with rate 0.1 along a gradient of norm 10: 5 in each of four directions."""
    torch.testing.assert_close(weights(trained, f"steep-{name}")["weight"], torch.full((4,), -3.0))


def test_clipping_that_the_config_asks_for_still_clips(trained):
    found = weights(trained, "clipped")["weight"]
    torch.testing.assert_close(found, torch.full((4,), -0.3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ZERO)
def test_parameters_without_gradient_are_named_where_decay_changes_them(trained, name):
    unused = "extra.weight"
    assert torch.equal(weights(trained, "unused-ddp")[unused], torch.ones(2, 2))
    assert (weights(trained, f"unused-{name}")[unused] < 1).all()
    log = next((trained / f"unused-{name}").rglob("*.log")).read_text()
    assert "2 parameters get no gradient from the loss: extra.bias, extra.weight." in log
    assert log.count("get no gradient from the loss") == 1
    assert "get no gradient" not in next((trained / f"norm-{name}").rglob("*.log")).read_text()


def test_blocks_inside_blocks_are_sharded(trained):
    check_close(weights(trained, "nested-fsdp"), weights(trained, "nested-ddp"))


@pytest.mark.parametrize("name", HALF)
def test_batch_norm_trains_in_16_bits_with_exact_statistics(trained, name):
    assert losses(trained, f"norm-{name}-half") == pytest.approx(losses(trained, "norm-ddp"), rel=0.03)
    half, whole = weights(trained, f"norm-{name}-half"), weights(trained, f"norm-{name}")
    assert half["backbone.1.running_var"].dtype == torch.float32
    for statistic in ("backbone.1.running_mean", "backbone.1.running_var"):
        torch.testing.assert_close(half[statistic], whole[statistic], rtol=0.03, atol=1e-3)
        assert not torch.equal(half[statistic], half[statistic].bfloat16().float()), "rounded to 16 bits"


@pytest.mark.slow
def test_backbones_with_batch_norm_train_in_16_bits(tmp_path):
    folder = _train(tmp_path, BACKBONES)
    for name in HALF:
        for short in BACKBONES:
            assert all(torch.isfinite(torch.tensor(losses(folder, f"{short}-{name}-half"))))
