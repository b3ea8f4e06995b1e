"""How every kernel is compiled: without the GIL held, and kept on disk beside its source.

numba writes the cached machine code to a temporary file and renames it, so that several processes
may compile the same kernel at once. Where the package folder is read-only it uses the user's cache
folder; ``NUMBA_CACHE_DIR`` names another one.
"""

from numba import njit

kernel = njit(cache=True, nogil=True)

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
