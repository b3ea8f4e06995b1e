"""Running jobs side by side with a progress bar."""

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, title: str) -> list[Result]:
    """Do every job and return the results in the order of the jobs.

    Args:
        work: Does one job. Threads are used: decoding, encoding and array work let each other run.
        jobs: What to do; results do not depend on the number of workers.
        workers: Threads; 1 works in the calling thread.
        title: Text beside the bar, which goes to standard error and only to a terminal.

    Raises:
        Exception: What a job raised; jobs not yet begun are dropped.
    """
    console = Console(stderr=True)
    quiet = not sys.stderr.isatty()

    def show(results: Sequence[Result] | object) -> list[Result]:
        return list(
            track(results, title, total=len(jobs), console=console, disable=quiet, transient=True)  # type: ignore[arg-type]
        )

    if workers <= 1:
        return show(map(work, jobs))
    pool = ThreadPoolExecutor(workers)
    try:
        return show(pool.map(work, jobs))
    finally:
        pool.shutdown(cancel_futures=True)
