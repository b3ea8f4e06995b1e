"""Running jobs in parallel, and loops with a progress bar."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Job = TypeVar("Job")
Result = TypeVar("Result")


def with_progress(items: Iterable[Result], *, total: int, title: str) -> Iterator[Result]:
    """Hand on items one by one with a progress bar, on standard error and only on a terminal.

    Args:
        items: The items.
        total: Their number.
        title: Text next to the bar.
    """
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()
    yield from track(items, title, total=total, console=console, disable=quiet, transient=True)


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, title: str) -> list[Result]:
    """Do every job and return the results in the order of the jobs.

    Args:
        work: Does one job. Threads are used: decoding, encoding and array work let each other run.
        jobs: The jobs; results do not depend on the number of workers.
        workers: Threads; 1 works in the calling thread.
        title: Text next to the progress bar.

    Raises:
        Exception: Raised by a job; jobs not yet begun are dropped.
    """
    if workers <= 1:
        return list(with_progress(map(work, jobs), total=len(jobs), title=title))
    pool = ThreadPoolExecutor(workers)
    try:
        return list(with_progress(pool.map(work, jobs), total=len(jobs), title=title))
    finally:
        pool.shutdown(cancel_futures=True)
