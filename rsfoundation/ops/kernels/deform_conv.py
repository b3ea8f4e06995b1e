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

import math

import numpy as np

from rsfoundation.ops.kernels.jit import inlined, kernel, summing_kernel


@inlined
def _taps(
    offset: np.ndarray, window: tuple[int, ...], image: int, row: int, point: int, place: int
) -> tuple[bool, tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Locate a sample.

    Returns:
        Whether it lies within the border; its pixels upper left, upper right, lower left and lower right;
        the weights of the upper and lower row and of the left and right column; 1 for each of these four
        that lies on the map, else 0 (its weight then is 0 too).
    """
    height, width, out_w, kernel_w, _, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w = window
    kind = offset.dtype.type
    zero, one = kind(0.0), kind(1.0)
    y = kind(place // out_w * stride_h - pad_h + point // kernel_w * dilation_h) + offset[row, 0, place]
    x = kind(place % out_w * stride_w - pad_w + point % kernel_w * dilation_w) + offset[row, 1, place]
    inside = y > -one and x > -one and y < kind(height) and x < kind(width)
    y, x = y if inside else zero, x if inside else zero
    top, left = math.floor(y), math.floor(x)
    down, right = y - kind(top), x - kind(left)
    above, below = one if top >= 0 else zero, one if top < height - 1 else zero
    before, beyond = one if left >= 0 else zero, one if left < width - 1 else zero
    upper = (image * height + max(top, 0)) * width
    lower = (image * height + min(top + 1, height - 1)) * width
    near, far = max(left, 0), min(left + 1, width - 1)
    corners = (upper + near, upper + far, lower + near, lower + far)
    weights = (above * (one - down), below * down, before * (one - right), beyond * right)
    return inside, corners, weights, (above, below, before, beyond)


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
                inside, (p0, p1, p2, p3), (y0, y1, x0, x1), _ = _taps(
                    offset, window, image, row, point, place
                )
                if not inside:
                    for c in range(channels):
                        columns[target, part, c] = 0
                    continue
                if masked:
                    y0, y1 = y0 * mask[row, 0, place], y1 * mask[row, 0, place]
                w0, w1, w2, w3 = y0 * x0, y0 * x1, y1 * x0, y1 * x1
                for c in range(channels):
                    columns[target, part, c] = (
                        w0 * pixels[p0, part, c]
                        + w1 * pixels[p1, part, c]
                        + w2 * pixels[p2, part, c]
                        + w3 * pixels[p3, part, c]
                    )


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

    ``columns`` holds the gradient of what ``sample`` writes there.
    """
    places, (_, parts, channels), points = offset.shape[2], columns.shape, window[4]
    for item in range(start, stop):
        image, place = item // places, item % places
        for point in range(points):
            source = item * points + point
            for part in range(parts):
                row = (image * parts + part) * points + point
                inside, (p0, p1, p2, p3), (y0, y1, x0, x1), (above, below, before, beyond) = _taps(
                    offset, window, image, row, point, place
                )
                d0 = d1 = d2 = d3 = y0 - y0
                if inside:
                    for c in range(channels):
                        flow = columns[source, part, c]
                        d0 += flow * pixels[p0, part, c]
                        d1 += flow * pixels[p1, part, c]
                        d2 += flow * pixels[p2, part, c]
                        d3 += flow * pixels[p3, part, c]
                upper, lower = x0 * d0 + x1 * d1, x0 * d2 + x1 * d3
                along_y = below * lower - above * upper
                along_x = beyond * (y0 * d1 + y1 * d3) - before * (y0 * d0 + y1 * d2)
                if masked:
                    grad_mask[row, 0, place] = y0 * upper + y1 * lower
                    along_y, along_x = along_y * mask[row, 0, place], along_x * mask[row, 0, place]
                grad_offset[row, 0, place], grad_offset[row, 1, place] = along_y, along_x


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
        low, high = max(start - image * channels, 0), min(stop - image * channels, channels)
        for place in range(places):
            for point in range(points):
                source = (image * places + place) * points + point
                for part in range(low // share, (high - 1) // share + 1):
                    row = (image * parts + part) * points + point
                    inside, (p0, p1, p2, p3), (y0, y1, x0, x1), _ = _taps(
                        offset, window, image, row, point, place
                    )
                    if not inside:
                        continue
                    if masked:
                        y0, y1 = y0 * mask[row, 0, place], y1 * mask[row, 0, place]
                    w0, w1, w2, w3 = y0 * x0, y0 * x1, y1 * x0, y1 * x1
                    for c in range(max(low, part * share), min(high, (part + 1) * share)):
                        flow = columns[source, c]
                        pixels[p0, c] += w0 * flow
                        pixels[p1, c] += w1 * flow
                        pixels[p2, c] += w2 * flow
                        pixels[p3, c] += w3 * flow
