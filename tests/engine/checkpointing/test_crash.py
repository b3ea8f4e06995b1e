"""Killed, without room, without a folder: the last good checkpoint is there, and training goes on from it."""

import errno
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from locations import HELPERS
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from noisy_task import Stopped, noisy_config, stopping

from rsfoundation.core.errors import CheckpointError
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.registry import HOOKS


def killed(folder, kills, seed, timeout):
    command = [sys.executable, str(HELPERS / "kills.py"), str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    return {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", done.stdout)}


def test_a_few_kills(tmp_path):
    assert killed(tmp_path, 4, 1, 500)["kills"] == 4


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills(tmp_path):
    counts = killed(tmp_path, 100, 2, 7000)
    assert counts["kills"] == 100 and counts["during"] > 40 and counts["before"] < 20


@pytest.fixture
def options(tmp_path):
    return RunOptions(tmp_path / "run", device="cpu", seed=7)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["disk full", "read-only"])
def test_a_checkpoint_that_cannot_be_written(tmp_path, options, monkeypatch, number):
    write = LocalBackend.put

    def half(self, data, path):
        if "iter_8" not in str(path):
            return write(self, data, path)
        Path(path).write_bytes(data[: len(data) // 2])
        raise OSError(number, "no")

    config = noisy_config(tmp_path, every=4)
    config.write_text(config.read_text().replace("max_keep_ckpts=2", "max_keep_ckpts=1"))
    with monkeypatch.context() as patch:
        patch.setattr(LocalBackend, "put", half)
        with pytest.raises(CheckpointError) as caught:
            train(config, options)
    assert "iter_8.pth" in caught.value.what and "--resume" in caught.value.fix
    assert "iter_6.pth" in caught.value.fix, "saved again with the best score of the first validation"
    names = {path.name for path in options.work_dir.glob("*.pth")} | {
        path.name for path in options.work_dir.glob(".*")
    }
    assert names == {"iter_6.pth", "best_accuracy_iter_6.pth"}
    result = train(config, RunOptions(options.work_dir, "auto", device="cpu", seed=7))
    assert result.last_checkpoint.name == "iter_18.pth"


@HOOKS.register_module()
class Vandal(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            shutil.rmtree(runner.work_dir)


def test_a_run_folder_that_vanished(tmp_path, options):
    config = noisy_config(tmp_path, every=4)
    file = config.with_name("vandal.py")
    file.write_text(
        config.read_text() + "\ncustom_hooks += [dict(type='rsfoundation.Vandal')]\nval_cfg = None\n"
        "val_dataloader = None\nval_evaluator = None\n"
        "default_hooks['checkpoint'].update(save_best=None)\n"
    )
    with pytest.raises(CheckpointError, match="has vanished"):
        train(file, options)
    assert not options.work_dir.exists() or not list(options.work_dir.glob("*.pth"))


def test_resume_passes_over_a_damaged_checkpoint_and_says_so(tmp_path, options, capfd):
    config = noisy_config(tmp_path, every=2)
    with pytest.raises(Stopped):
        train(stopping(config, 5), options)
    newest = options.work_dir / "iter_4.pth"
    newest.write_bytes(newest.read_bytes()[:-300])
    train(config, RunOptions(options.work_dir, "auto", device="cpu", seed=7))
    said = "".join(capfd.readouterr())
    assert "iter_4.pth is damaged" in said and "iter_2.pth, the newest complete" in said


def test_resume_without_a_checkpoint_begins_and_says_so(tmp_path, options, capfd):
    config = noisy_config(tmp_path)
    train(config, RunOptions(options.work_dir, "auto", device="cpu", seed=7))
    assert "training starts at the beginning" in "".join(capfd.readouterr())
    assert read_checkpoint(options.work_dir / "iter_18.pth")["meta"]["iter"] == 18
