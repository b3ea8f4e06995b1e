"""How every kernel is compiled: without the GIL held, and kept on disk beside its source.

numba writes the cached machine code to a temporary file and renames it, so that several processes
may compile the same kernel at once. Where the package folder is read-only it uses the user's cache
folder; ``NUMBA_CACHE_DIR`` names another one.

A first use should cost no more than about a second. What numba takes longest over is avoided therefore:
array expressions, slices and allocations (kernels are handed their scratch memory), one compilation per
type of labels or absent operand, and helpers that are functions of their own (they are inlined).
"""

import gc

from numba import njit
from numba.core import event


class _CollectorPause(event.Listener):
    """Python's garbage collector rests while numba compiles; it took a fifth of the time, for nothing."""

    def __init__(self) -> None:
        self._depth = 0
        self._was_on = False

    def on_start(self, event: event.Event) -> None:
        """Switch it off at the outermost compilation; numba lets one thread compile at a time."""
        if not self._depth:
            self._was_on = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: event.Event) -> None:
        """Switch it on again if it was on."""
        self._depth -= 1
        if not self._depth and self._was_on:
            gc.enable()


event.register("numba:compile", _CollectorPause())

# The error model of numpy: a division by zero gives infinity, and costs no branch.
kernel = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(inline="always", error_model="numpy")

# For arithmetic that gains from fused multiply-adds.
fused_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
