"""Ranks started by Slurm or MPI find each other from the variables those set."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from locations import HELPERS, ROOT

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed import launch as distributed
from rsfoundation.engine.distributed.deepspeed import use_cpu_accelerator
from rsfoundation.io.checkpoints import is_complete

_MEET = """
from mmengine.config import Config
from rsfoundation.engine.distributed.launch import init_distributed
import torch, torch.distributed as dist
init_distributed({launcher!r}, "cpu", Config({{}}))
total = torch.ones(1)
dist.all_reduce(total)
print("sum", int(total), flush=True)
"""
_NAMES = {
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "OMPI_", "MASTER_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", _NAMES)
def test_two_ranks_meet(launcher):
    ranks = []
    for rank in range(2):
        variables = dict(zip(_NAMES[launcher], (str(rank), "2", str(rank)), strict=True))
        ranks.append(
            subprocess.Popen(
                [sys.executable, "-c", _MEET.format(launcher=launcher)],
                env={**os.environ, **variables, "MASTER_PORT": "29641"},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    assert [process.communicate(timeout=120)[0].split()[-2:] for process in ranks] == [["sum", "2"]] * 2


def test_cpu_ranks_of_deepspeed_compile_nothing():
    """DeepSpeed would build an operator, for minutes, when the first CPU rank joins."""
    use_cpu_accelerator()
    assert sys.modules["deepspeed.comm.torch"].build_shm_op() is None
    assert not hasattr(torch, "build_shm_op")


_STARTS = {
    "pytorch": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "deepspeed": ["deepspeed", "--num_gpus", "2", "--master_port", "29643"],
    "mpi": ["mpirun", "-np", "2", "--oversubscribe", sys.executable],
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", _STARTS)
def test_each_launcher_trains_as_the_guide_says(tiny_config, launcher):
    """Real launchers, CPU ranks, ZeRO 2: what ``docs/distributed.md`` tells users to type."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which(_STARTS[launcher][0], path=path) is None:
        pytest.skip(f"{_STARTS[launcher][0]} is not installed")
    words = [ROOT / "tools" / "train.py", tiny_config, "--launcher", launcher, "--device", "cpu"]
    words += ["--strategy", "deepspeed-zero2", "--work-dir", tiny_config.parent / "run"]
    done = subprocess.run(
        [*_STARTS[launcher], *map(str, words)],
        cwd=tiny_config.parent,
        env={
            **os.environ,
            "PATH": path,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(HELPERS))),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "MASTER_PORT": "29645",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        },
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    last = tiny_config.parent / "run" / "epoch_4.pth"
    assert len(list(last.glob("*_optim_states.pt"))) == 2 and is_complete(last)


def test_slurm_meets_on_its_first_host(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "node[1-2]" ] && echo node1 && echo node2\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[1-2]")
    assert distributed._first_host("slurm") == "node1"


def test_mpi_over_several_hosts_asks_for_an_address(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "16")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "8")
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        distributed._first_host("mpi")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "16")
    assert distributed._first_host("mpi") == "127.0.0.1"
