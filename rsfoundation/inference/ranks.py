"""Sharing scenes among processes: each predicts some rows, the first one writes the results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from rsfoundation.io.tile_rows import TILE

_PATIENCE = timedelta(days=7)  # processes wait for the slowest one; a lost one ends the launcher
Value = TypeVar("Value")

# What Slurm and Open MPI call the variables that torch reads.
_VARIABLES = {
    "RANK": ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK"),
    "WORLD_SIZE": ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"),
    "LOCAL_RANK": ("SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


@dataclass(frozen=True)
class Ranks:
    """The processes of a prediction.

    Attributes:
        index: Which one this is.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def start(cls, launcher: str) -> Ranks:
        """Join the processes that ``torchrun`` or Slurm has started; they talk through gloo.

        Args:
            launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        """
        if launcher == "none":
            return cls()
        import torch.distributed

        for variable, names in _VARIABLES.items():
            value = next((os.environ[name] for name in names if name in os.environ), None)
            if value is not None:
                os.environ.setdefault(variable, value)
        if "MASTER_ADDR" not in os.environ:
            os.environ["MASTER_ADDR"] = _first_host()
        os.environ.setdefault("MASTER_PORT", "29500")
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process writes the results."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier()

    def shares(self, jobs: Sequence[Any]) -> Iterator[tuple[Any, int, int]]:
        """Yield scene, first row and row after the last of this process's share.

        Rows are shared in units of tile rows, by the number of pixels; scenes that cannot be split go to the
        first process whole.

        Args:
            jobs: Scenes with their runs; those that failed are left out.
        """
        ready = [job for job in jobs if job.runs and job.error is None]
        if self.count == 1:
            for job in ready:
                yield job, 0, job.scene.height
            return
        split = [job for job in ready if all(run.is_resumable for run in job.runs)]
        total = sum(_units(job) * job.scene.width for job in split)
        passed = 0
        for job in ready:
            if job not in split:
                if self.is_first:
                    yield job, 0, job.scene.height
                continue
            owners = [
                (passed + (unit + 0.5) * job.scene.width) * self.count / total for unit in range(_units(job))
            ]
            mine = [unit for unit, owner in enumerate(owners) if int(owner) == self.index]
            passed += _units(job) * job.scene.width
            if mine:
                yield job, mine[0] * TILE, min(job.scene.height, (mine[-1] + 1) * TILE)

    def from_first(self, value: Value) -> Value:
        """Return what the first process passes.

        Args:
            value: Anything that pickles.
        """
        if self.count == 1:
            return value
        import torch.distributed

        box = [value]
        torch.distributed.broadcast_object_list(box)
        return box[0]

    def share_errors(self, jobs: Sequence[Any]) -> None:
        """Let every process know which scenes failed anywhere, and how many windows were done.

        Args:
            jobs: Scenes, changed in place.
        """
        import torch.distributed

        mine = [(job.error, job.windows, job.empty) for job in jobs]
        everyone: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(everyone, mine)
        for index, job in enumerate(jobs):
            seen = [part[index] for part in everyone]
            job.error = next((error for error, _, _ in seen if error is not None), None)
            job.windows, job.empty = sum(part[1] for part in seen), sum(part[2] for part in seen)


def _first_host() -> str:
    """Return the host of the first process of a Slurm job, else this one."""
    nodes = os.environ.get("SLURM_NODELIST")
    if nodes is None:
        return "127.0.0.1"
    import subprocess

    listed = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    )
    return listed.stdout.split()[0]


def device_of_rank(device: str, launcher: str) -> str:
    """Return the device of this process: of several GPUs of a host, each process takes its own.

    Args:
        device: What the user asked for.
        launcher: Who started the processes.
    """
    import torch

    if launcher == "none" or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    return f"cuda:{local % torch.cuda.device_count()}"


def _units(job: Any) -> int:
    return -(-job.scene.height // TILE)
