"""Ranks started by Slurm or MPI find each other from the variables those set."""

import os
import subprocess
import sys

import pytest

from rsfoundation.engine import distributed
from rsfoundation.errors import ConfigError

_MEET = """
from mmengine.config import Config
from rsfoundation.engine.distributed import init_distributed
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
