"""Runs a kernel over a range in several threads.

Kernels release the GIL, so threads of Python will do. numba's own ``prange`` is not used: its thread pools
neither survive a ``fork`` (data loader workers) nor allow calls from several threads at once.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import torch


def run_chunks(
    kernel: Callable[..., None],
    count: int,
    *args: Any,
    grain: int = 1,
    pieces: int = 1,
    scratch: Callable[[], tuple[Any, ...]] = tuple,
) -> None:
    """Call ``kernel(*args, *scratch(), start, stop)`` on consecutive parts of ``range(count)``.

    As many threads as torch uses take part, the calling one among them.

    Args:
        kernel: A compiled function that writes only what belongs to ``start..stop``.
        count: Length of the range.
        *args: Passed before ``start`` and ``stop``.
        grain: Fewest items worth a thread of their own.
        pieces: Parts per thread; more than one evens out items of unequal cost.
        scratch: Allocates the memory that each call needs to itself.
    """
    threads = max(1, min(torch.get_num_threads(), count // max(grain, 1)))
    if threads == 1:
        kernel(*args, *scratch(), 0, count)
        return
    parts = min(threads * pieces, count)
    edges = [count * part // parts for part in range(parts + 1)]
    jobs = deque((part, partial(kernel, *args, *scratch(), *edges[part : part + 2])) for part in range(parts))
    errors: dict[int, BaseException] = {}

    def work() -> None:
        while not errors:
            try:
                part, job = jobs.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException as error:  # raised below, by the calling thread
                errors[part] = error

    helpers = [_pool(os.getpid(), threads).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()
    if errors:
        raise errors[min(errors)]


@lru_cache(maxsize=2)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the pool of this process; a forked child has another id and thus its own pool."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"rsf-ops-{process}")
