"""Ending a distributed run soon and with a clear message when one of its hosts is lost.

A killed process closes its connections, which collectives notice at once. A host that loses power or network
closes nothing: gloo then waits for half an hour. So every rank also gives a sign of life through the store at
``MASTER_ADDR`` and looks at the others'.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from mmengine.logging import print_log

from rsfoundation.core.errors import RSFError

INTERVAL = 3.0  # seconds between two signs of life
PATIENCE = 40.0  # seconds without one; a step may hold Python's lock for a while, as compilers do
_LOST = re.compile(
    r"Connection (closed|reset|refused)|Broken pipe|Timed out|timeout|remote process exited|NCCL",
    re.IGNORECASE,
)
_FIX = "start the same command on every host again with --resume: it goes on from the last checkpoint"


class PeerError(RSFError):
    """Another rank of a distributed run is gone."""


@contextmanager
def watching_peers() -> Iterator[None]:
    """End this rank when another is lost; ranks leave together.

    Raises:
        PeerError: A collective failed since its other end is gone.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield
        return
    watch = _Watch()
    watch.start()
    try:
        yield
        dist.barrier()  # a rank that left early would look lost to the others
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        raise PeerError(
            f"rank {dist.get_rank()} lost its connection to another rank "
            f"({str(error).strip().splitlines()[0][:200]}); the rank that ended first says why",
            where=socket.gethostname(),
            fix=_FIX,
        ) from error
    finally:
        watch.stop()


class _Watch(threading.Thread):
    """Gives signs of life and looks at those of the others, on a connection of its own."""

    def __init__(self) -> None:
        super().__init__(name="rsf-peers", daemon=True)
        self._over = threading.Event()

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        self.join(timeout=2 * INTERVAL)

    def run(self) -> None:
        """Watch until stopped; end the process when a peer is lost."""
        rank, size = dist.get_rank(), dist.get_world_size()
        seen = dict.fromkeys((other for other in range(size) if other != rank), (b"", time.monotonic()))
        reached, store = time.monotonic(), None
        beat = 0
        while not self._over.wait(INTERVAL):
            try:
                store = store or _connect()
                store.set(f"rsf/beat/{rank}", f"{beat} {socket.gethostname()}")
                values = {other: store.get(f"rsf/beat/{other}") for other in seen}
            except RuntimeError:
                store = None  # a store that stays away is a lost host, too; a rank may also start slowly
                if time.monotonic() - reached > PATIENCE:
                    self._end(f"the store at {os.environ.get('MASTER_ADDR')}")
                continue
            beat, reached = beat + 1, time.monotonic()
            for other, value in values.items():
                if value != seen[other][0]:
                    seen[other] = (value, reached)
                elif reached - seen[other][1] > PATIENCE:
                    self._end(f"rank {other} on host {value.decode().split()[-1]}")

    def _end(self, who: str) -> None:
        if self._over.is_set():
            return
        print_log(
            f"{who} has given no sign of life for {PATIENCE:.0f} s: this run ends. To go on, {_FIX}",
            logger="current",
            level=logging.ERROR,
        )
        logging.shutdown()
        os._exit(1)  # the main thread waits inside a collective and hears nothing


def _connect() -> dist.Store:
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(
        address,
        port,
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=PATIENCE / 2),
    )
