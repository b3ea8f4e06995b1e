"""CPU kernels, compiled by numba on first use; operators import them inside their functions.

The constants here are shared by kernels and the operators that call them. Importing them loads no numba.
"""

MIN_AREA = 1e-14  # mmcv: a smaller box or polygon overlaps nothing
DEPTHWISE_LANES = 16  # channels that the depth-wise kernel computes at a time
ATTENTION_WINDOW = 7  # tokens along a side of a window
