"""LoRA on two ranks: what is frozen stays as it was, adapters learn, and come back alone or merged."""

from pathlib import Path

import pytest
import torch
import worker  # noqa: F401  its hook is in the configs of the runs
from noisy_task import same
from scenarios import SHARDED, ZERO, check_close, losses, weights
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.core.errors import CheckpointError
from rsfoundation.engine.checkpointing.zero_layout import read_zero_folder
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.io.checkpoints import read_checkpoint

NAME = "deepspeed-zero3-lora"


def rsf(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def is_adapter(key):
    return ".lora_" in key


def test_two_ranks_train_adapters_as_one_process(runs):
    check_training(runs, NAME)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_every_strategy_trains_adapters_as_one_process(more_runs, name):
    check_training(more_runs, f"{name}-lora")


def check_training(runs, name):
    assert losses(runs, name) == pytest.approx(losses(runs, "alone-lora"), rel=1e-5)
    found = weights(runs, name)
    check_close(found, weights(runs, "alone-lora"))
    folders = [runs / name / f"epoch_{number}.pth" for number in (1, 2)]
    first, last = (
        (read_zero_folder(one, False) if one.is_dir() else read_checkpoint(one))["state_dict"]
        for one in folders
    )
    frozen = [key for key in found if "base_layer" in key or key.startswith("frozen")]
    assert len(frozen) == 6
    assert all(torch.equal(first[key], last[key]) for key in frozen)
    if folders[0].is_dir():
        assert all(torch.equal(last[key], found[key]) for key in frozen)
    adapters = [key for key in found if is_adapter(key)]
    assert len(adapters) == 4 and all(not torch.equal(first[key], last[key]) for key in adapters)


def test_only_adapters_are_written(runs, tmp_path):
    rsf("convert", "zero-to-fp32", runs / NAME, tmp_path / "a.pth", "--only", "adapters", "--no-ema")
    state = read_checkpoint(tmp_path / "a.pth")["state_dict"]
    live = {key: value for key, value in weights(runs, NAME).items() if is_adapter(key)}
    assert len(live) == 4 and not same(dict(state), live)


def test_merging_a_folder_is_exact(runs, tmp_path):
    rsf("convert", "merge-lora", runs / NAME / "epoch_2.pth", tmp_path / "merged.pth")
    state = read_checkpoint(tmp_path / "merged.pth")["state_dict"]
    live = weights(runs, f"{NAME}.average")
    assert not [key for key in state if "lora" in key or "base_layer" in key]
    for layer in ("body.0", "body.2"):
        down, up = (live[f"{layer}.lora_{side}.default.weight"] for side in "AB")
        wanted = live[f"{layer}.base_layer.weight"] + up @ down * (16 / 2)
        assert torch.equal(state[f"{layer}.weight"], wanted), (state[f"{layer}.weight"] - wanted).abs().max()
    rest = [key for key in state if not key.startswith("body")]
    assert len(rest) > 10 and all(torch.equal(state[key], live[key]) for key in rest)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_adapters_alone_are_saved_resumed_and_tested(more_runs, name, monkeypatch):
    monkeypatch.chdir(more_runs)
    run = more_runs / f"{name}-adapters"
    saved = run / "epoch_2.pth"
    content = read_zero_folder(saved) if saved.is_dir() else read_checkpoint(saved)
    live = weights(more_runs, run.name)
    assert set(live) - set(content["state_dict"]) == {
        f"body.{layer}.base_layer.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
    }
    assert not same(live, weights(more_runs, f"{name}-adapters-again"))
    options = RunOptions(more_runs / "test", device="cpu")
    assert run_test(run / "config.py", saved, options, pictures=0).metrics["accuracy"] > 0.5
    if saved.is_dir():  # what was frozen does not get into other weights unnoticed
        base = Path("base.pth").read_bytes()
        torch.save({key: value + 1 for key, value in torch.load("base.pth").items()}, "base.pth")
        try:
            with pytest.raises(CheckpointError, match="other weights"):
                run_test(run / "config.py", saved, options, pictures=0)
        finally:
            Path("base.pth").write_bytes(base)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO)
def test_adapters_from_whole_checkpoints_of_every_stage(more_runs, tmp_path, name):
    run = more_runs / f"{name}-lora"
    for kind, live in (("--ema", f"{name}-lora.average"), ("--no-ema", f"{name}-lora")):
        rsf("convert", "zero-to-fp32", run, tmp_path / "a.safetensors", "--only", "adapters", kind)
        state = read_checkpoint(tmp_path / "a.safetensors")["state_dict"]
        wanted = {key: value for key, value in weights(more_runs, live).items() if is_adapter(key)}
        assert not same(dict(state), wanted)
