"""Bilinear samples of a deformable convolution, and where their gradients go.

Positions are computed in the type of the features, and what lies beyond the zero border is left out, as
mmcv does it, so that both pick the same pixels. The innermost loop runs over channels, which lie side by
side.

Arrays that all kernels share: ``pixels`` has a row for each pixel of the batch, ``columns`` one for each
pixel of the output and point of the convolution kernel; rows are ``(parts, channels of a part)`` or
``(channels,)``. ``offset`` ``(batch * parts * points, 2, places)`` moves a point along y and x for each
pixel of the output; ``mask`` ``(batch * parts * points, 1, places)`` is read where ``masked``. ``window``
holds height and width of the maps, the width of the output, that of the convolution kernel, its number of
points, and stride, padding and dilation along y and x.
"""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels.jit import kernel, summing_kernel
from rsfoundation.ops.kernels.straight import call, convert, larger, least, most, smaller, straight, where


def _taps(
    offset: Any, window: tuple[Any, ...], image: Any, row: Any, point: Any, place: Any
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Locate a sample.

    Returns:
        Whether it lies within the border; its pixels upper left, upper right, lower left and lower right;
        the weights of the upper and lower row and of the left and right column; 1 for each of these four
        that lies on the map, else 0 (its weight then is 0 too).
    """
    height, width, out_w, kernel_w, _, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = window
    down, right = offset[row, 0, place], offset[row, 1, place]

    def real(value: Any) -> Any:
        return convert(value, down.kind)

    def part(at: Any, size: Any) -> tuple[Any, ...]:
        """Return the two pixels along an axis, their weights, and 1 for each that lies on the map."""
        first = convert(call("llvm.floor", at), types.int64)
        beyond = at - real(first)
        here, there = real(first >= 0), real(first < size - 1)
        return (
            larger(first, 0),
            smaller(first + 1, size - 1),
            here * (1.0 - beyond),
            there * beyond,
            here,
            there,
        )

    y = real(place // out_w * stride_h - pad_h + point // kernel_w * dilation_h) + down
    x = real(place % out_w * stride_w - pad_w + point % kernel_w * dilation_w) + right
    inside = (y > -1.0) & (x > -1.0) & (y < real(height)) & (x < real(width))
    top, bottom, y0, y1, above, below = part(where(inside, y, 0.0), height)
    left, right, x0, x1, before, beyond = part(where(inside, x, 0.0), width)
    upper, lower = (image * height + top) * width, (image * height + bottom) * width
    corners = (upper + left, upper + right, lower + left, lower + right)
    return inside, corners, (y0, y1, x0, x1), (above, below, before, beyond)


_plain_taps = straight(_taps)


@straight
def _weighted_taps(
    offset: Any, mask: Any, masked: Any, window: tuple[Any, ...], image: Any, row: Any, point: Any, place: Any
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """Return whether a sample lies within the border, its pixels, and their weights."""
    inside, corners, (y0, y1, x0, x1), _ = _taps(offset, window, image, row, point, place)
    factor = where(masked, mask[row, 0, place], 1.0)
    y0, y1 = y0 * factor, y1 * factor
    return inside, corners, (y0 * x0, y0 * x1, y1 * x0, y1 * x1)


@straight
def _blend(columns: Any, target: Any, part: Any, c: Any, pixels: Any, corners: Any, weights: Any) -> None:
    w0, w1, w2, w3 = weights
    p0, p1, p2, p3 = (pixels[corner, part, c] for corner in corners)
    columns[target, part, c] = w0 * p0 + w1 * p1 + w2 * p2 + w3 * p3


@straight
def _add_back(columns: Any, source: Any, c: Any, pixels: Any, corners: Any, weights: Any) -> None:
    for corner, weight in zip(corners, weights, strict=True):
        pixels[corner, c] += weight * columns[source, c]


@straight
def _products(columns: Any, source: Any, part: Any, c: Any, pixels: Any, corners: Any) -> tuple[Any, ...]:
    """Return what the gradient of a channel of a sample makes of its four pixels."""
    flow = columns[source, part, c]
    return tuple(flow * pixels[corner, part, c] for corner in corners)


@straight
def _write_slopes(
    sums: tuple[Any, ...],
    taps: tuple[Any, ...],
    mask: Any,
    masked: Any,
    row: Any,
    place: Any,
    grad_offset: Any,
    grad_mask: Any,
) -> None:
    """Write the gradients of a sample from sums of ``_products`` over its channels."""
    d0, d1, d2, d3 = sums
    _, _, (y0, y1, x0, x1), (above, below, before, beyond) = taps
    upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
    factor = where(masked, mask[row, 0, place], 1.0)
    grad_mask[row, 0, place] = y0 * upper + y1 * lower
    grad_offset[row, 0, place] = (below * lower - above * upper) * factor
    grad_offset[row, 1, place] = (beyond * (y0 * d1 + y1 * d3) - before * (y0 * d0 + y1 * d2)) * factor


@kernel
def sample(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write ``columns`` for pixels ``start..stop`` of the output, counted over the batch."""
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            target = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                inside, corners, weights = _weighted_taps(
                    offset, mask, masked, window, image, row, point, place
                )
                if inside:
                    for c in range(channels):
                        _blend(columns, target, part, c, pixels, corners, weights)
                else:
                    for c in range(channels):
                        columns[target, part, c] = 0


@summing_kernel
def slopes(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    grad_offset: np.ndarray,
    grad_mask: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write the gradients of offsets and mask for pixels ``start..stop`` of the output.

    ``columns`` holds the gradient of what ``sample`` writes there. ``grad_mask`` is written in any case.
    """
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            source = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                taps = _plain_taps(offset, window, image, row, point, place)
                inside, corners, weights, _ = taps
                d0 = d1 = d2 = d3 = weights[0] - weights[0]
                if inside:
                    for c in range(channels):
                        of0, of1, of2, of3 = _products(columns, source, part, c, pixels, corners)
                        d0, d1, d2, d3 = d0 + of0, d1 + of1, d2 + of2, d3 + of3
                _write_slopes((d0, d1, d2, d3), taps, mask, masked, row, place, grad_offset, grad_mask)


@kernel
def spread(
    pixels: np.ndarray,
    offset: np.ndarray,
    mask: np.ndarray,
    masked: bool,
    window: tuple[int, ...],
    columns: np.ndarray,
    parts: int,
    start: int,
    stop: int,
) -> None:
    """Add to channels ``start..stop`` of ``pixels``, counted over the batch, the gradient of ``sample``.

    ``columns`` holds the gradient of what ``sample`` writes there. Channels, not outputs, are shared out
    among threads: samples of different outputs meet in one pixel.
    """
    places, channels, points = offset.shape[2], columns.shape[1], window[4]
    share = channels // parts
    for image in range(start // channels, (stop - 1) // channels + 1):
        low, high = most(start - image * channels, 0), least(stop - image * channels, channels)
        for place in range(places):
            for point in range(points):
                source = (image * places + place) * points + point
                for part in range(low // share, (high - 1) // share + 1):
                    row = (image * parts + part) * points + point
                    inside, corners, weights = _weighted_taps(
                        offset, mask, masked, window, image, row, point, place
                    )
                    if inside:
                        for c in range(most(low, part * share), least(high, (part + 1) * share)):
                            _add_back(columns, source, c, pixels, corners, weights)
