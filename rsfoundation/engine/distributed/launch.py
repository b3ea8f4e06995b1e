"""Starting the process group of a distributed run, on CUDA or on CPU.

mmengine's ``init_dist`` always calls ``torch.cuda.set_device``, so CPU ranks are started here, with
gloo; mmengine's runner then finds the group in place and leaves it alone.
"""

import os
import subprocess
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist

from rsfoundation.core.errors import ConfigError

# What each launcher calls rank, world size and local rank.
_RANK_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
_START = {
    "pytorch": "torchrun --nproc-per-node 2 tools/train.py CONFIG --launcher pytorch",
    "slurm": "srun --ntasks 2 python tools/train.py CONFIG --launcher slurm",
    "mpi": "mpirun -np 2 python tools/train.py CONFIG --launcher mpi",
}


def init_distributed(launcher: str, device: str, cfg: Config) -> None:
    """Join the process group that ``launcher`` describes in the environment; a second call does nothing.

    Raises:
        ConfigError: The launcher's variables are absent: the program was started by hand.
    """
    if dist.is_available() and dist.is_initialized():
        return
    missing = [name for name in _RANK_VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} needs the variable {missing[0]}, which that launcher sets for its ranks",
            fix=f"start it as: {_START[launcher]}",
        )
    options = dict(cfg.get("env_cfg", {}).get("dist_cfg", {}))
    # whatever started the ranks, what comes after reads torchrun's variables
    for theirs, ours in zip(_RANK_VARIABLES[launcher], _RANK_VARIABLES["pytorch"], strict=True):
        os.environ.setdefault(ours, os.environ[theirs])
    os.environ.setdefault("MASTER_ADDR", _first_host(launcher))
    os.environ.setdefault("MASTER_PORT", "29500")
    if device == "cuda":
        init_dist(launcher, **options)
        return
    _share_cores()
    dist.init_process_group("gloo", timeout=timedelta(seconds=options.get("timeout", 1800)))


def choose_accelerator(cfg: Config, device: str) -> None:
    """Set DeepSpeed's device to that of this run; it would take CUDA wherever CUDA is installed.

    Args:
        cfg: The resolved config; nothing is done where its strategy is not DeepSpeed's.
        device: ``cpu`` or ``cuda``.
    """
    kind = str((cfg.get("strategy") or {}).get("type")).rsplit(".", 1)[-1]
    if kind != "DeepSpeedStrategy" or device != "cpu" or find_spec("deepspeed") is None:
        return  # the strategy itself reports that DeepSpeed is missing
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.accelerator import get_accelerator, set_accelerator

    # not `from deepspeed.comm import torch`, which gives torch itself
    backend: Any = import_module("deepspeed.comm.torch")

    if get_accelerator().device_name() != "cpu":
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

        set_accelerator(CPU_Accelerator())
    # It would compile an all-reduce through shared memory, minutes on the first run; gloo serves.
    backend.build_shm_op = lambda: None


def _first_host(launcher: str) -> str:
    """Return where the ranks meet: Slurm's first host, else this one, right for runs on one host only.

    Raises:
        ConfigError: MPI ranks of several hosts, which are told no address.
    """
    if launcher == "slurm" and int(os.environ.get("SLURM_NNODES", "1")) > 1:
        names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
        return subprocess.run(names, check=True, capture_output=True, text=True).stdout.split()[0]
    here = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if launcher == "mpi" and here is not None and here != os.environ["OMPI_COMM_WORLD_SIZE"]:
        raise ConfigError(
            "ranks on several hosts must be told where they meet: MASTER_ADDR is not set",
            fix="mpirun -x MASTER_ADDR=<first host> -x MASTER_PORT=29500 ...",
        )
    return "127.0.0.1"


def _share_cores() -> None:
    """Split this host's cores between its ranks unless the user said otherwise."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks_here))
