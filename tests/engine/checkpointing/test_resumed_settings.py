"""After ``--resume`` the config's rates, decay and schedules hold, and the log names what changed."""

import json
import shutil

import pytest

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import read_checkpoint

COSINE = "param_scheduler = [dict(type='CosineAnnealingLR', by_epoch={0}, T_max={1}, eta_min_ratio=0.02{2})]"
MIXED = """
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
                   dict(type='MultiStepLR', by_epoch=True, milestones=[{}], gamma=0.1)]
optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0))
"""
STEPS = "param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[1, 3], gamma=0.1)]"
CASES = {
    "cosine by epoch": (COSINE.format(True, 2, ""), COSINE.format(True, 4, "")),
    "cosine by iteration": (COSINE.format(False, 12, ""), COSINE.format(False, 24, "")),
    "cosine converted to iterations": (
        COSINE.format(True, 2, ", convert_to_iter_based=True"),
        COSINE.format(True, 4, ", convert_to_iter_based=True"),
    ),
    "warm-up and steps of several groups": (MIXED.format(1), MIXED.format(3)),
    "another type": (COSINE.format(True, 2, ""), STEPS),
}


def write(config, name, text):
    file = config.with_name(f"{name}.py")
    file.write_text(f"_base_ = ['{config.name}']\ntrain_cfg = dict(val_interval=100)\n{text}\n")
    return file


def rates(folder):
    """The learning rate of each logged iteration."""
    rows = json.loads((folder / "metrics.json").read_text())["train"]
    return {row["iter"]: row["lr"] for row in rows}


def run(config, folder, epochs, resume=None, extra=()):
    overrides = (f"train_cfg.max_epochs={epochs}", "default_hooks.logger.interval=1", *extra)
    train(config, RunOptions(folder, resume, device="cpu", seed=1, overrides=overrides))
    return folder


def said(folder):
    logs = sorted(folder.rglob("*.log"), key=lambda file: file.stat().st_mtime)
    return logs[-1].read_text()


@pytest.mark.parametrize("case", CASES)
def test_a_changed_schedule_continues_as_if_it_had_been_there_from_the_start(tiny_config, tmp_path, case):
    before, after = CASES[case]
    short, long = write(tiny_config, "short", before), write(tiny_config, "long", after)
    wanted = rates(run(long, tmp_path / "whole", 4))
    resumed = rates(run(long, run(short, tmp_path / "run", 2), 4, "auto"))
    assert [resumed[i] for i in range(13, 25)] == [wanted[i] for i in range(13, 25)]
    text = said(tmp_path / "run")
    assert "the config holds where it differs from the checkpoint" in text and "param_scheduler[" in text


def test_the_fourth_epoch_of_an_extended_cosine(tiny_config, tmp_path):
    """eta_min + (lr - eta_min) (1 + cos(3 pi / 4)) / 2 for lr 1.5e-3 and a least rate of 0.02 lr."""
    lr = ["optim_wrapper.optimizer.lr=1.5e-3"]
    short, long = (write(tiny_config, f"to{n}", COSINE.format(True, n, "")) for n in (2, 4))
    run(long, run(short, tmp_path / "run", 2, extra=lr), 4, "auto", extra=lr)
    assert rates(tmp_path / "run")[24] == pytest.approx(2.453e-4, rel=1e-3)
    assert "T_max 4 (checkpoint: 2)" in said(tmp_path / "run")


def test_a_changed_rate_and_decay_hold_and_moments_stay(tiny_config, tmp_path):
    config = write(tiny_config, "plain", "")
    run(config, tmp_path / "run", 2)
    saved = read_checkpoint(tmp_path / "run" / "epoch_2.pth")["optimizer"]["state"]
    change = ("optim_wrapper.optimizer.lr=0.02", "optim_wrapper.optimizer.weight_decay=0.5")
    still = ("optim_wrapper.optimizer.momentum=1.0",)  # a moment that never fades
    run(config, tmp_path / "run", 3, "auto", (*change, *still))
    assert set(list(rates(tmp_path / "run").values())[-6:]) == {0.02}
    text = said(tmp_path / "run")
    for part in ("lr 0.02 (checkpoint: 0.05)", "weight_decay 0.5 (checkpoint: 0)", "learning rate 0.02"):
        assert part in text
    last = read_checkpoint(tmp_path / "run" / "epoch_3.pth")["optimizer"]
    assert {group["weight_decay"] for group in last["param_groups"]} == {0.5}
    assert saved.keys() == last["state"].keys()
    recorded = (tmp_path / "run" / "config.py").read_text()
    assert "lr=0.02" in recorded and "weight_decay=0.5" in recorded


def test_an_unchanged_config_is_restored_without_a_word(tiny_config, tmp_path):
    config = write(tiny_config, "same", MIXED.format("1, 3") + "param_scheduler[1]['end'] = 9")
    run(config, tmp_path / "whole", 4)
    run(config, tmp_path / "run", 2)
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    run(config, tmp_path / "moved", 4, "auto")
    assert rates(tmp_path / "moved") == rates(tmp_path / "whole")
    assert "the config holds" not in said(tmp_path / "moved")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            "optim_wrapper = dict(paramwise_cfg=dict(bias_lr_mult=2.0))",
            "1 parameter groups, the config's has",
        ),
        (
            "optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.01))",
            "another optimiser: it has dampening, momentum, nesterov, .* has amsgrad, betas",
        ),
    ],
)
def test_the_state_of_another_optimiser_is_refused(tiny_config, tmp_path, change, found):
    run(write(tiny_config, "before", ""), tmp_path / "run", 1)
    with pytest.raises(ConfigError, match=found) as caught:
        run(write(tiny_config, "after", change), tmp_path / "run", 2, "auto")
    assert "load_from" in caught.value.fix


def test_reductions_by_a_metric_stay_the_checkpoints(tiny_config, tmp_path):
    plateau = (
        "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='accuracy', rule='less', factor=0.5,"
        " patience={0}, threshold=0.0)]\ntrain_cfg = dict(val_interval=1)"
    )
    run(write(tiny_config, "first", plateau.format(0)), tmp_path / "run", 3)
    before = read_checkpoint(tmp_path / "run" / "epoch_3.pth")["param_schedulers"][0]
    run(write(tiny_config, "second", plateau.format(5)), tmp_path / "run", 4, "auto")
    assert "patience 5 (checkpoint: 0)" in said(tmp_path / "run")
    after = read_checkpoint(tmp_path / "run" / "epoch_4.pth")["param_schedulers"][0]
    assert after["patience"] == 5 and after["best"] <= before["best"]
    reduced = rates(tmp_path / "run")
    assert reduced[24] == reduced[18] < 0.05, "the reductions so far stay"
