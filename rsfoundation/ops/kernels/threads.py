"""Runs a kernel over a range in several threads.

Kernels release the GIL, so threads that Python knows will do. numba's own ``prange`` is not used: its thread
pools neither survive a ``fork`` (data loader workers) nor allow calls from several threads at once.
"""

import ctypes
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import torch

# What OpenMP has each thread of a team call; threads that are not Python's get a state of it meanwhile.
_Region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# OpenMP's threads do not follow into a forked child, which would wait for them for ever.
_OPENMP_PROCESS = os.getpid() if multiprocessing.parent_process() is None else None


def run_chunks(
    kernel: Callable[..., None],
    count: int,
    *args: Any,
    grain: int = 1,
    pieces: int = 1,
    scratch: Callable[[], tuple[Any, ...]] = tuple,
) -> None:
    """Call ``kernel(*args, *scratch(), start, stop)`` on consecutive parts of ``range(count)``.

    Args:
        kernel: A compiled function that writes only what belongs to ``start..stop``.
        count: Length of the range.
        *args: Passed before ``start`` and ``stop``.
        grain: Fewest items worth a thread of their own.
        pieces: Parts per thread; more than one evens out items of unequal cost.
        scratch: Allocates what each call needs to itself.
    """
    threads = max(1, min(torch.get_num_threads(), count // max(grain, 1)))
    if threads == 1:
        kernel(*args, *scratch(), 0, count)
        return
    parts = min(threads * pieces, count)
    edges = [count * part // parts for part in range(parts + 1)]
    jobs = [partial(kernel, *args, *scratch(), *edges[part : part + 2]) for part in range(parts)]
    openmp = _openmp() if os.getpid() == _OPENMP_PROCESS else None
    if openmp is None:
        for job in [_pool(os.getpid(), threads).submit(job) for job in jobs]:
            job.result()
    else:
        _run_in_team(openmp, threads, jobs)


@lru_cache(maxsize=1)
def _openmp() -> Any:
    """Return how GNU's OpenMP starts a team of threads, or None where torch was not built with it.

    Its threads are those that torch computes in. After each operation of torch they wait for the next by
    spinning for some milliseconds, and for so long threads of our own would have to wait for a free core.
    """
    try:
        return ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):  # no such function; no such way to ask (Windows)
        return None


def _run_in_team(openmp: Any, threads: int, jobs: Sequence[Callable[[], None]]) -> None:
    """Let each thread of a team take the next job until none is left."""
    left, errors = deque(enumerate(jobs)), dict[int, BaseException]()

    def work(_: Any) -> None:
        while not errors:
            try:
                place, job = left.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException as error:  # it would end on the console, not at the caller
                errors[place] = error

    openmp(_Region(work), None, ctypes.c_uint(threads), ctypes.c_uint(0))
    if errors:
        raise errors[min(errors)]


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool of this process; a forked child has another id and thus its own pool."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"rsf-ops-{process}")
