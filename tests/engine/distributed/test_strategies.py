"""Two real ranks under every strategy do what one process does on the whole batch, and convert exactly."""

import json

import pytest
import torch
from safetensors import safe_open
from scenarios import FEW, SHARDED, ZERO, check_close, losses, weights

from rsfoundation.engine.checkpointing.zero_conversion import convert_zero
from rsfoundation.engine.checkpointing.zero_layout import read_zero_folder
from rsfoundation.io.checkpoints import read_checkpoint


@pytest.mark.parametrize("name", FEW)
def test_two_ranks_train_as_one_process_with_the_whole_batch(runs, name):
    _check_equal_training(runs, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "deepspeed-zero2", "offload"])
def test_more_strategies_train_as_one_process_with_the_whole_batch(more_runs, name):
    _check_equal_training(more_runs, name)


def _check_equal_training(runs, name):
    assert losses(runs, name) == pytest.approx(losses(runs, "alone"), rel=1e-5)
    assert losses(runs, name)[-1] < 0.9 * losses(runs, name)[0]
    check_close(weights(runs, name), weights(runs, "alone"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_accumulated_gradients_are_those_of_one_process(more_runs, name):
    check_close(weights(more_runs, f"{name}-accumulate"), weights(more_runs, "alone-accumulate"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_layerwise_rates_are_those_of_one_process(more_runs, name):
    check_close(weights(more_runs, f"{name}-decay"), weights(more_runs, "alone-decay"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_recomputing_activations_changes_nothing(more_runs, name):
    """Six iterations of a recomputed part call it twelve times."""
    found = weights(more_runs, f"{name}-recompute")
    check_close(found, weights(more_runs, "alone"))
    assert json.loads((more_runs / f"{name}-recompute.calls.json").read_text()) == 12


def _saved(run):
    file = run / "epoch_2.pth"
    return read_zero_folder(file) if file.is_dir() else read_checkpoint(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepspeed-zero2"])
def test_more_averages_are_those_of_one_process(more_runs, name):
    _check_averages(more_runs, name)


@pytest.mark.parametrize("name", FEW)
def test_averages_are_those_of_one_process(runs, name):
    _check_averages(runs, name)


def _check_averages(runs, name):
    alone = read_checkpoint(runs / "alone" / "epoch_2.pth")["state_dict"]
    raw = weights(runs, "alone")
    ours = _saved(runs / name)["state_dict"]
    assert not torch.allclose(alone["head.weight"], raw["head.weight"], atol=1e-3)
    check_close(ours, alone)


@pytest.mark.parametrize("form", [".pth", ".safetensors", "-folder"])
@pytest.mark.parametrize("name", FEW[1:])
def test_conversion_is_exact(runs, tmp_path, name, form):
    _check_conversion(runs, name, tmp_path / f"out{form}")


_KINDS = ("", "-bf16", "-lora", "-lora-bf16")


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{name}{kind}" for name in ZERO for kind in _KINDS])
def test_more_conversions_give_the_float32_masters(more_runs, tmp_path, name):
    _check_conversion(more_runs, name, tmp_path / "out.pth")


def _check_conversion(runs, name, output):
    """Compare with what DeepSpeed's own means gather from the live model: raw weights and averages."""
    for averaged, live in ((False, weights(runs, name)), (True, weights(runs, f"{name}.average"))):
        done = convert_zero(runs / name, output, "epoch_2.pth", averaged=averaged, max_shard_bytes=1000)
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
    from rsfoundation.engine.evaluate import test as run_test
    from rsfoundation.engine.resolve_config import RunOptions

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
