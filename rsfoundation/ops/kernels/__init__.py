"""CPU kernels compiled by numba on first use and kept on disk; they see numpy arrays only."""
