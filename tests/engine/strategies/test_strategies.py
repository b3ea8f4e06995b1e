"""Two real ranks under every strategy do what one process does on the whole batch, and convert exactly."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from launch import finish, start
from safetensors import safe_open

from rsfoundation.checkpoints import read_checkpoint
from rsfoundation.engine.zero_convert import convert_zero
from rsfoundation.engine.zero_gather import read_zero_folder

ZERO = ("deepspeed-zero1", "deepspeed-zero2", "deepspeed-zero3")
SHARDED = ("fsdp", *ZERO)
FEW = ("fsdp", "deepspeed-zero1", "deepspeed-zero3")
WHOLE_BATCH = ["train_dataloader.batch_size=8"]
ACCUMULATE = ["optim_wrapper.accumulative_counts=3"]


def few_scenarios():
    """What two ranks train in the default suite, by name."""
    return {name: dict(strategy=name, ema=True) for name in FEW}


def more_scenarios():
    """What they train in the slow suite."""
    found = {"ddp": dict(strategy="ddp"), "offload": dict(strategy="deepspeed-zero3-offload")}
    for name in SHARDED:
        found[name] = dict(strategy=name, ema=True)
        half = ["train_cfg.max_epochs=1"]
        found[f"{name}-half"] = dict(strategy=name, ema=True, options=half, run=f"{name}-again")
        found[f"{name}-again"] = dict(strategy=name, ema=True, resume="auto")
        found[f"{name}-accumulate"] = dict(strategy=name, options=ACCUMULATE)
    for name in ZERO:
        found[f"{name}-bf16"] = dict(strategy=name, ema=True, options=["strategy.bf16.enabled=True"])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder in which two ranks trained few scenarios and this process trained the whole batch."""
    return _train(tmp_path_factory.mktemp("few"), few_scenarios())


@pytest.fixture(scope="module")
def more_runs(tmp_path_factory):
    """The folder of all scenarios."""
    return _train(tmp_path_factory.mktemp("more"), more_scenarios())


def _train(folder, scenarios):
    from sharded_parts import write_config

    config = write_config(folder)
    ranks = start(folder, scenarios, config)
    _train_alone(folder, config, accumulate="ddp" in scenarios)
    finish(ranks, folder)
    return folder


def _train_alone(folder, config, accumulate):
    import worker

    here = Path.cwd()
    os.chdir(folder)
    try:
        worker.run("alone", dict(options=WHOLE_BATCH, ema=True), config)
        if accumulate:
            worker.run("alone-accumulate", dict(options=WHOLE_BATCH + ACCUMULATE), config)
    finally:
        os.chdir(here)


def _weights(runs, name):
    return torch.load(runs / f"{name}.pth")


def _losses(runs, name):
    return json.loads((runs / f"{name}.json").read_text())


@pytest.mark.parametrize("name", FEW)
def test_two_ranks_train_as_one_process_with_the_whole_batch(runs, name):
    _check_equal_training(runs, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "deepspeed-zero2", "offload"])
def test_more_strategies_train_as_one_process_with_the_whole_batch(more_runs, name):
    _check_equal_training(more_runs, name)


def _check_equal_training(runs, name):
    assert _losses(runs, name) == pytest.approx(_losses(runs, "alone"), rel=1e-5)
    assert _losses(runs, name)[-1] < 0.9 * _losses(runs, name)[0]
    _check_close(_weights(runs, name), _weights(runs, "alone"))


def _check_close(ours, wanted):
    assert set(ours) == set(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_accumulated_gradients_are_those_of_one_process(more_runs, name):
    _check_close(_weights(more_runs, f"{name}-accumulate"), _weights(more_runs, "alone-accumulate"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_resuming_after_half_gives_the_same_bits(more_runs, name):
    whole, again = _weights(more_runs, name), _weights(more_runs, f"{name}-again")
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    states = [_saved(more_runs / run)["state_dict"] for run in (name, f"{name}-again")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), "the averages"


@pytest.mark.slow
def test_resuming_with_another_number_of_ranks_and_another_stage(more_runs):
    """One rank goes on with the whole batch from what two wrote; two go on under another stage."""
    again = {}
    for name in ZERO:
        _continue_elsewhere(more_runs / f"{name}-again", more_runs / f"{name}-one")
        again[f"{name}-one"] = dict(strategy=name, ema=True, resume="auto", options=WHOLE_BATCH)
    _continue_elsewhere(more_runs / f"{ZERO[0]}-again", more_runs / "stage")
    finish(start(more_runs, again, more_runs / "sharded.py", ranks=1), more_runs)
    stage = {"stage": dict(strategy="deepspeed-zero3", ema=True, resume="auto")}
    finish(start(more_runs, stage, more_runs / "sharded.py"), more_runs)
    for name in [*again, "stage"]:
        _check_close(_weights(more_runs, name), _weights(more_runs, ZERO[0]))
        _check_close(_saved(more_runs / name)["state_dict"], _saved(more_runs / ZERO[0])["state_dict"])


def _continue_elsewhere(run, other):
    shutil.copytree(run / "epoch_1.pth", other / "epoch_1.pth")
    (other / "last_checkpoint").write_text(str(other / "epoch_1.pth"))


def _saved(run):
    file = run / "epoch_2.pth"
    return read_zero_folder(file) if file.is_dir() else read_checkpoint(file)


@pytest.mark.parametrize("name", FEW)
def test_averages_are_those_of_one_process(runs, name):
    alone = read_checkpoint(runs / "alone" / "epoch_2.pth")["state_dict"]
    raw = _weights(runs, "alone")
    ours = _saved(runs / name)["state_dict"]
    assert not torch.allclose(alone["head.weight"], raw["head.weight"], atol=1e-3)
    _check_close(ours, alone)


@pytest.mark.parametrize("form", [".pth", ".safetensors", "-folder"])
@pytest.mark.parametrize("name", FEW[1:])
def test_conversion_is_exact(runs, tmp_path, name, form):
    _check_conversion(runs, name, tmp_path / f"out{form}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepspeed-zero2", *(f"{name}-bf16" for name in ZERO)])
def test_more_conversions_give_the_float32_masters(more_runs, tmp_path, name):
    _check_conversion(more_runs, name, tmp_path / "out.pth")


def _check_conversion(runs, name, output):
    live = _weights(runs, name)
    done = convert_zero(runs / name, output, "epoch_2.pth", averaged=False, max_shard_bytes=1000)
    content = read_checkpoint(done.output)
    assert set(content["state_dict"]) == set(live)
    for key, value in live.items():
        wanted = value.float() if value.is_floating_point() else value
        assert torch.equal(content["state_dict"][key], wanted), key
    assert tuple(content["meta"]["dataset_meta"]["classes"]) == ("right", "left")
    assert content["meta"]["epoch"] == 2 and "ShardedNet" in content["meta"]["cfg"]
    assert done.stage == int(name[14]) and done.world_size == 2


def test_tied_weights_share_memory_in_pth_and_load_everywhere(runs, tmp_path):
    from sharded_parts import ShardedNet

    done = convert_zero(runs / ZERO[2], tmp_path / "x.pth", "epoch_2.pth")
    state = torch.load(done.output, weights_only=True)["state_dict"]
    assert state["first.weight"].data_ptr() == state["second.weight"].data_ptr()
    ShardedNet().load_state_dict(state)
    done = convert_zero(runs / ZERO[2], tmp_path / "x.safetensors", "epoch_2.pth")
    with safe_open(done.output, "pt") as content:
        assert torch.equal(content.get_tensor("first.weight"), content.get_tensor("second.weight"))


def test_frozen_weights_can_be_left_out(runs, tmp_path):
    for name in FEW[1:]:
        done = convert_zero(runs / name, tmp_path / f"{name}.pth", "epoch_2.pth", only="trained")
        keys = set(read_checkpoint(done.output)["state_dict"])
        assert "frozen.weight" not in keys and "stem.bias" not in keys and {"offset", "seen"} <= keys


def test_one_config_tests_every_checkpoint_with_the_plain_runner(runs):
    from rsfoundation.engine.options import RunOptions
    from rsfoundation.engine.test import test as run_test

    found = {
        name: run_test(
            runs / "sharded.py",
            runs / name / "epoch_2.pth",
            RunOptions(runs / "test", device="cpu"),
            pictures=0,
        ).metrics
        for name in ("alone", *FEW)
    }
    assert len({metrics["accuracy"] for metrics in found.values()}) == 1, found
