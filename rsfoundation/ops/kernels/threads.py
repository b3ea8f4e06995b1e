"""Runs a kernel over a range in several threads.

Kernels release the GIL, so plain Python threads do. numba's own ``prange`` is not used: its thread
pools neither survive a ``fork`` (data loader workers) nor allow calls from several threads at once.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool of this process; a forked child has another id and thus its own pool."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"rsf-ops-{process}")


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
    pool = _pool(os.getpid(), threads)
    for job in [pool.submit(kernel, *args, *scratch(), *edges[i : i + 2]) for i in range(parts)]:
        job.result()
