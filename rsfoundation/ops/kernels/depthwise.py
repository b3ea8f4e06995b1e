"""Gradient of a depth-wise convolution's weights, for maps whose channels lie side by side.

A few channels at a time are copied out of their maps first: pixels then follow each other in memory, where
otherwise they would be as far apart as there are channels, and compete for the same places of the cache.
"""

from typing import Any

import numpy as np

from rsfoundation.ops.kernels import DEPTHWISE_LANES as LANES
from rsfoundation.ops.kernels.runtime import straight, summing_kernel

_RUN = 4  # neighbouring pixels whose products are summed at a time


@straight
def _copy(part: Any, place: Any, maps: Any, pixel: Any, block: Any) -> None:
    part.store((place, 0), maps.load((pixel, block * LANES), LANES))


def _add(count: int, sums: Any, tap: Any, seen: Any, there: Any, slopes: Any, here: Any) -> None:
    total = sums.load((tap, 0), LANES)
    for step in range(count):
        total += seen.load((there + step, 0), LANES) * slopes.load((here + step, 0), LANES)
    sums.store((tap, 0), total)


@straight
def _add_run(sums: Any, tap: Any, seen: Any, there: Any, slopes: Any, here: Any) -> None:
    _add(_RUN, sums, tap, seen, there, slopes, here)


@straight
def _add_pixel(sums: Any, tap: Any, seen: Any, there: Any, slopes: Any, here: Any) -> None:
    _add(1, sums, tap, seen, there, slopes, here)


@summing_kernel
def weight_gradient(
    maps: np.ndarray,
    map_slopes: np.ndarray,
    window: tuple[int, ...],
    out: np.ndarray,
    sums: np.ndarray,
    seen: np.ndarray,
    slopes: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add to ``out`` for blocks of ``LANES`` channels ``start..stop``.

    Args:
        maps: The convolution's input, ``(images * height * width, channels)``.
        map_slopes: The gradient of its result, of the same shape.
        window: Images; height and width of the maps; of the kernel, odd numbers.
        out: ``(taps, channels)``.
        sums: Scratch ``(taps, LANES)``, zero at first: an image's sums, for fewer roundings.
        seen: Scratch ``(height * (width + kernel width - 1), LANES)``, zero at first: maps, and zeros around.
        slopes: Scratch ``(height * width, LANES)``.
        start: First block.
        stop: After the last.
    """
    images, height, width, rows, columns = window
    line = width + columns - 1
    for item in range(start * images, stop * images):
        block, image = item // images, item % images
        for y in range(height):
            for x in range(width):
                pixel = y * width + x
                _copy(slopes, pixel, map_slopes, image * height * width + pixel, block)
                _copy(seen, y * line + columns // 2 + x, maps, image * height * width + pixel, block)
        for y in range(height):
            for row in range(rows):
                other = y + row - rows // 2
                if other < 0 or other >= height:
                    continue
                for column in range(columns):
                    tap, there, here = row * columns + column, other * line + column, y * width
                    for x in range(0, width - _RUN + 1, _RUN):
                        _add_run(sums, tap, seen, there + x, slopes, here + x)
                    for x in range(width - width % _RUN, width):
                        _add_pixel(sums, tap, seen, there + x, slopes, here + x)
        for tap in range(rows * columns):
            for lane in range(LANES):
                out[tap, block * LANES + lane] += sums[tap, lane]
                sums[tap, lane] = 0.0
