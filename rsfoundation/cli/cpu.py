"""How a process of ``rsf`` uses processor and memory; what Python packages must leave to their users."""

import ctypes
import os
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # that it takes


def spin_less_on_shared_cores() -> None:
    """Let torch's threads give up their core soon while they wait, if other programs are at work now.

    Spinning long makes several programs on the same cores several times slower; waking a thread that does
    not spin makes one alone up to twice as slow. Only GNU's OpenMP, thus Linux, reads the variable.
    """
    try:
        running = Path("/proc/loadavg").read_text().split()[3].split("/")[0]
    except OSError:
        return
    others = int(running) - 1
    if others >= max(1, (os.cpu_count() or 1) // 2):
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def keep_freed_memory() -> None:
    """Let glibc keep up to 2 GiB that were freed for what is allocated next.

    It returns more than a little to the system at once, and every page of the next activation is faulted in
    again: tens of thousands in a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_TRIM_THRESHOLD, (2 << 30) - 1)
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
