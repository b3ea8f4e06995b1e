"""How every kernel is compiled: without the GIL held, and kept on disk beside its source.

numba writes the cached machine code to a temporary file and renames it, so that several processes
may compile the same kernel at once. Where the package folder is read-only it uses the user's cache
folder; ``NUMBA_CACHE_DIR`` names another one.

A first use should cost about a second, numba's own start included. What numba takes longest over is avoided
therefore: statements that it analyses (kernels are loops; what they compute is ``straight``), array
expressions, slices and allocations (kernels are handed their scratch memory), one compilation per type of
labels or absent operand, and helpers that are functions of their own.
"""

import gc
from threading import RLock

from numba import njit
from numba.core import event


class _CollectorPause(event.Listener):
    """Python's garbage collector rests while numba compiles or reads its cache: a third of the time."""

    def __init__(self) -> None:
        self._lock, self._depth, self._was_on = RLock(), 0, False

    def on_start(self, event: event.Event) -> None:
        """Switch it off when the first thread asks for numba's lock."""
        with self._lock:
            if not self._depth:
                self._was_on = gc.isenabled()
                gc.disable()
            self._depth += 1

    def on_end(self, event: event.Event) -> None:
        """Switch it on again, if it was on, when the last thread has released the lock."""
        with self._lock:
            self._depth -= 1
            if not self._depth and self._was_on:
                gc.enable()


event.register("numba:compiler_lock", _CollectorPause())

# The error model of numpy: a division by zero gives infinity, and costs no branch.
kernel = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(inline="always", error_model="numpy")

# For arithmetic that gains from fused multiply-adds.
fused_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
