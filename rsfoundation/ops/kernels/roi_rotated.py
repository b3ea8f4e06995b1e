"""RoIAlign over rotated regions.

Rounding follows mmcv's CPU operator: positions are computed in the type of the features, so that
both pick the same pixels. The innermost loop runs over channels, which vectorises when they are
contiguous and still works when they are not.

Arrays that both kernels share: ``pixels`` is the flat memory of feature maps whose steps from image to
image, row to row, column to column and channel to channel are ``steps``; ``size`` is their height and
width; ``regions`` ``(n, 7)`` holds image index, centre x, y, width, height (feature pixels), cosine and
sine; ``grids`` ``(n, 2)`` the samples per bin along height and width; ``bins`` ``(n, rows, columns,
channels)`` belongs to the pooled regions.
"""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.straight import clamp, convert, straight, where

_IMAGE, _CX, _CY, _WIDTH, _HEIGHT, _COS, _SIN = range(7)


@straight
def _taps(
    regions: Any, grids: Any, steps: Any, size: Any, bins: Any, n: Any, bin_: tuple[Any, Any], sample: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return where the four pixels of a bilinear sample lie, and their weights over the samples of a bin.

    The weights of a sample outside the map are zero.
    """
    across_h, across_w = grids[n, 0], grids[n, 1]
    iy, ix = sample // across_w, sample % across_w
    image, cx, cy, width, height, cos, sin = (regions[n, column] for column in range(7))

    def real(value: Any) -> Any:
        return convert(value, cos.kind)

    bin_h, bin_w = height / real(bins.shape[1]), width / real(bins.shape[2])
    v = real(bin_[0]) * bin_h - height * 0.5 + (real(iy) + 0.5) * bin_h / real(across_h)
    u = real(bin_[1]) * bin_w - width * 0.5 + (real(ix) + 0.5) * bin_w / real(across_w)
    y, x = v * cos - u * sin + cy, v * sin + u * cos + cx
    outside = (y < -1.0) | (y > real(size[0])) | (x < -1.0) | (x > real(size[1]))
    share = where(outside, 0.0, 1.0 / real(across_h * across_w))
    y, x = clamp(y, 0.0, real(size[0] - 1)), clamp(x, 0.0, real(size[1] - 1))
    top, left = convert(y, types.int64), convert(x, types.int64)
    down, right = y - real(top), x - real(left)
    low = convert(image, types.int64) * steps[0] + top * steps[1] + left * steps[2]
    below, beside = where(top < size[0] - 1, steps[1], 0), where(left < size[1] - 1, steps[2], 0)
    up, before = 1.0 - down, 1.0 - right
    weights = (up * before * share, up * right * share, down * before * share, down * right * share)
    return (low, low + beside, low + below, low + below + beside), weights


@straight
def _add(
    bins: Any, n: Any, bin_: tuple[Any, Any], c: Any, pixels: Any, steps: Any, taps: tuple[Any, Any]
) -> None:
    """Add a channel of a sample to its bin."""
    (p0, p1, p2, p3), (w0, w1, w2, w3) = taps
    at = c * steps[3]
    bins[n, bin_[0], bin_[1], c] += (
        w0 * pixels[p0 + at] + w1 * pixels[p1 + at] + w2 * pixels[p2 + at] + w3 * pixels[p3 + at]
    )


@straight
def _add_back(
    bins: Any, n: Any, bin_: tuple[Any, Any], c: Any, pixels: Any, steps: Any, taps: tuple[Any, Any]
) -> None:
    """Add the gradient of a channel of a bin to the pixels of a sample."""
    at, slope = c * steps[3], bins[n, bin_[0], bin_[1], c]
    for place, weight in zip(*taps, strict=True):
        pixels[place + at] += weight * slope


@kernel
def pool(
    pixels: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    regions: np.ndarray,
    grids: np.ndarray,
    bins: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill ``bins[start:stop]`` with the mean of the samples of each bin."""
    _, rows, columns, channels = bins.shape
    for n in range(start, stop):
        for row in range(rows):
            for column in range(columns):
                for c in range(channels):
                    bins[n, row, column, c] = 0
                for sample in range(grids[n, 0] * grids[n, 1]):
                    taps = _taps(regions, grids, steps, size, bins, n, (row, column), sample)
                    for c in range(channels):
                        _add(bins, n, (row, column), c, pixels, steps, taps)


@kernel
def spread(
    pixels: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    regions: np.ndarray,
    grids: np.ndarray,
    bins: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of ``pool`` to channels ``start..stop`` of ``pixels``, from that of its bins."""
    count, rows, columns, _ = bins.shape
    for n in range(count):
        for row in range(rows):
            for column in range(columns):
                for sample in range(grids[n, 0] * grids[n, 1]):
                    taps = _taps(regions, grids, steps, size, bins, n, (row, column), sample)
                    for c in range(start, stop):
                        _add_back(bins, n, (row, column), c, pixels, steps, taps)
