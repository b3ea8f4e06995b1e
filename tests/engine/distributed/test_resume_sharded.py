"""Resuming under every strategy: the same bits, in the middle of an epoch too; other ranks and stages."""

import shutil

import pytest
import torch
from launch import finish, start
from noisy_task import same
from scenarios import SHARDED, WHOLE_BATCH, ZERO, check_close, weights

from rsfoundation.engine.checkpointing.zero_layout import read_zero_folder
from rsfoundation.io.checkpoints import read_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_PASSING = ("meta", "message_hub", "ds_config", "loss_scaler")  # hold times and addresses


@pytest.mark.parametrize("name", SHARDED)
def test_resuming_after_half_gives_the_same_bits(more_runs, name):
    whole, again = weights(more_runs, name), weights(more_runs, f"{name}-again")
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    states = [_saved(more_runs / run)["state_dict"] for run in (name, f"{name}-again")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), "the averages"


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
        check_close(weights(more_runs, name), weights(more_runs, ZERO[0]))
        check_close(_saved(more_runs / name)["state_dict"], _saved(more_runs / ZERO[0])["state_dict"])


def _continue_elsewhere(run, other):
    shutil.copytree(run / "epoch_1.pth", other / "epoch_1.pth")
    (other / "last_checkpoint").write_text(str(other / "epoch_1.pth"))


def _saved(run):
    file = run / "epoch_2.pth"
    return read_zero_folder(file) if file.is_dir() else read_checkpoint(file)


@pytest.mark.parametrize("name", SHARDED)
def test_resuming_in_the_middle_of_an_epoch_gives_the_same_bits(more_runs, name):
    """Random transforms in two workers, dropout, averages; stopped after 5 of 9 iterations, saved after 4."""
    whole, again = (more_runs / f"{name}-noisy{kind}" / "iter_9.pth" for kind in ("", "-again"))
    files = [file.relative_to(whole) for file in whole.glob("*.pt")] if whole.is_dir() else ["."]
    assert len(files) in (1, 5, 6)
    for file in files:
        one, two = (_bits(read_checkpoint(run / file)) for run in (whole, again))
        assert one and not same(one, two), file
    assert not same(weights(more_runs, f"{name}-noisy"), weights(more_runs, f"{name}-noisy-again"))


def _bits(content):
    """What a checkpoint file holds of the training, apart from when and where it was written."""
    place = {"resume": content["meta"]["resume"]} if "meta" in content else {}
    if isinstance(content.get("optimizer_state_dict"), dict):
        content["optimizer_state_dict"] = _lasting(content["optimizer_state_dict"])
    return {**_lasting(content), **place}


def _lasting(content):
    return {key: value for key, value in content.items() if key not in _PASSING}
