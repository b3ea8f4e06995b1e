"""How every kernel is compiled: without the GIL held, and kept on disk beside its source.

numba writes the cached machine code to a temporary file and renames it, so that several processes
may compile the same kernel at once. Where the package folder is read-only it uses the user's cache
folder; ``NUMBA_CACHE_DIR`` names another one.

A first use should cost no more than about a second. What numba takes longest over is avoided therefore:
array expressions, slices and allocations (kernels are handed their scratch memory), one compilation per
type of labels or absent operand, and helpers that are functions of their own (they are inlined).
"""

from numba import njit

# The error model of numpy: a division by zero gives infinity, and costs no branch.
kernel = njit(cache=True, nogil=True, error_model="numpy")
inlined = njit(inline="always", error_model="numpy")

# For arithmetic that gains from fused multiply-adds.
fused_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
