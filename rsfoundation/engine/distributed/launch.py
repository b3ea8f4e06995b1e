"""The process group of a distributed run: joining it, and ending the run when a rank is lost.

mmengine's ``init_dist`` always calls ``torch.cuda.set_device``, so CPU ranks are started here, with
gloo; mmengine's runner then finds the group initialised and leaves it alone.

A killed process closes its connections, which collectives notice at once. A host that loses power or network
closes nothing: gloo then waits for half an hour. So every rank also writes a heartbeat to the store at
``MASTER_ADDR`` and reads the heartbeats of the others.
"""

import logging
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.logging import print_log

from rsfoundation.core.errors import ConfigError, RSFError

# The variables of each launcher for rank, world size and local rank.
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

    Args:
        launcher: ``pytorch``, ``slurm`` or ``mpi``.
        device: ``cpu`` or ``cuda``.
        cfg: The config; ``env_cfg.dist_cfg`` has options of the group.

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
    # torch, mmengine and DeepSpeed read torchrun's variables, whatever started the ranks
    for theirs, ours in zip(_RANK_VARIABLES[launcher], _RANK_VARIABLES["pytorch"], strict=True):
        os.environ.setdefault(ours, os.environ[theirs])
    os.environ.setdefault("MASTER_ADDR", _first_host(launcher))
    os.environ.setdefault("MASTER_PORT", "29500")
    if device == "cuda":
        init_dist(launcher, **options)
        return
    _share_cores()
    dist.init_process_group("gloo", timeout=timedelta(seconds=options.get("timeout", 1800)))


def _first_host(launcher: str) -> str:
    """Return the host where the ranks meet: Slurm's first, else this one, right for runs on one host only.

    Raises:
        ConfigError: MPI ranks of several hosts without an address.
    """
    if launcher == "slurm" and int(os.environ.get("SLURM_NNODES", "1")) > 1:
        names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
        return subprocess.run(names, check=True, capture_output=True, text=True).stdout.split()[0]
    here = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE")
    if launcher == "mpi" and here is not None and here != os.environ["OMPI_COMM_WORLD_SIZE"]:
        raise ConfigError(
            "ranks on several hosts need the address of the first host: MASTER_ADDR is not set",
            fix="mpirun -x MASTER_ADDR=<first host> -x MASTER_PORT=29500 ...",
        )
    return "127.0.0.1"


def _share_cores() -> None:
    """Split this host's cores between its ranks unless the user said otherwise."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks_here))


INTERVAL = 3.0  # seconds between two heartbeats
TIMEOUT = 40.0  # seconds without one; a step may hold Python's lock for a while, as compilers do
_LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Timed out|timeout|remote process exited|NCCL",
    re.IGNORECASE,
)
_FIX = "start the same command on every host again with --resume: it continues from the last checkpoint"


class RankLostError(RSFError):
    """Another rank of a distributed run has ended or cannot be reached."""


@contextmanager
def watch_ranks() -> Iterator[None]:
    """End this rank when another is lost; ranks leave the block together.

    Raises:
        RankLostError: A collective failed since its other end is gone.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield
        return
    heartbeat = _Heartbeat()
    heartbeat.start()
    try:
        yield
        dist.barrier()  # a rank that left early would look lost to the others
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        raise RankLostError(
            f"rank {dist.get_rank()} lost its connection to another rank "
            f"({str(error).strip().splitlines()[0][:200]}); the rank that ended first reports why",
            where=socket.gethostname(),
            fix=_FIX,
        ) from error
    finally:
        heartbeat.stop()


class _Heartbeat(threading.Thread):
    """Writes this rank's heartbeat and reads the others', on a connection of its own."""

    def __init__(self) -> None:
        super().__init__(name="rsf-heartbeat", daemon=True)
        self._over = threading.Event()

    def stop(self) -> None:
        """Stop the thread."""
        self._over.set()
        self.join(timeout=2 * INTERVAL)

    def run(self) -> None:
        """Run until stopped; end the process when a rank is lost."""
        rank, size = dist.get_rank(), dist.get_world_size()
        seen = dict.fromkeys((other for other in range(size) if other != rank), (b"", time.monotonic()))
        reached, store = time.monotonic(), None
        beat = 0
        while not self._over.wait(INTERVAL):
            try:
                store = store or _connect()
                store.set(f"rsf/heartbeat/{rank}", f"{beat} {socket.gethostname()}")
                values = {other: store.get(f"rsf/heartbeat/{other}") for other in seen}
            except RuntimeError:
                store = (
                    None  # a store that stays unreachable is a lost host, too; a rank may also start slowly
                )
                if time.monotonic() - reached > TIMEOUT:
                    self._end(f"the store at {os.environ.get('MASTER_ADDR')}")
                continue
            beat, reached = beat + 1, time.monotonic()
            for other, value in values.items():
                if value != seen[other][0]:
                    seen[other] = (value, reached)
                elif reached - seen[other][1] > TIMEOUT:
                    self._end(f"rank {other} on host {value.decode().split()[-1]}")

    def _end(self, who: str) -> None:
        if self._over.is_set():
            return
        print_log(
            f"no heartbeat from {who} for {TIMEOUT:.0f} s: this run ends. To continue, {_FIX}",
            logger="current",
            level=logging.ERROR,
        )
        logging.shutdown()
        os._exit(1)  # the main thread waits inside a collective and cannot be interrupted


def _connect() -> dist.Store:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(
        address,
        port,
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=TIMEOUT / 2),
    )
