"""Two real CPU ranks: gloo, no CUDA call, equal weights; a rank started by hand learns how to start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from locations import HELPERS, ROOT

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed.launch import init_distributed


def _torchrun(config: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [
        str(ROOT / "tools" / "train.py"),
        str(config),
        "--launcher",
        "pytorch",
        "--device",
        "cpu",
        *words,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(HELPERS)))}
    return subprocess.run(
        command, env=environment, cwd=config.parent, capture_output=True, text=True, timeout=300
    )


def test_two_cpu_ranks_train_together(tiny_config):
    done = _torchrun(tiny_config, "--work-dir", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tiny_config.parent / "run"
    record = json.loads((folder / "metrics.json").read_text())
    # 24 images, batch 4, two ranks: three iterations an epoch.
    assert [(row["epoch"], row["iter"]) for row in record["val"]] == [(2, 6), (4, 12)]
    assert record["val"][-1]["accuracy"] > 0.5
    assert done.stdout.count("run folder:") == 1, "only the first rank talks"


def test_a_rank_started_by_hand_is_told_the_command(tiny_config, monkeypatch):
    from rsfoundation.engine.config import load_config

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        init_distributed("pytorch", "cpu", load_config(tiny_config))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed-zero2"])
def test_weights_of_permuted_classes_are_refused_before_they_are_sharded(tiny_config, strategy):
    folder = tiny_config.parent
    state = {"state_dict": {}, "meta": {"dataset_meta": {"classes": ("left", "right")}}}
    torch.save(state, folder / "swapped.pth")
    command = [sys.executable, str(ROOT / "tools" / "train.py"), str(tiny_config), "--strategy", strategy]
    command += ["--device", "cpu", "--cfg-options", f"load_from={folder / 'swapped.pth'}"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(HELPERS)))},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and "the same classes in another order" in done.stderr, done.stderr[-2000:]
