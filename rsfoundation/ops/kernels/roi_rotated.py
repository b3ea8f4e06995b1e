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

import numpy as np

from rsfoundation.ops.kernels.jit import inlined, kernel

_IMAGE, _CX, _CY, _WIDTH, _HEIGHT, _COS, _SIN = range(7)


@inlined
def _taps(
    regions: np.ndarray,
    grids: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    n: int,
    place: tuple[int, int],
    within: tuple[int, int],
    bins: np.ndarray,
) -> tuple[int, int, int, int, float, float, float, float]:
    """Return where the four pixels of a bilinear sample lie, and their weights over the samples of a bin.

    The weights of a sample outside the map are zero.
    """
    kind = regions.dtype.type
    one, half = kind(1.0), kind(0.5)
    bin_h, bin_w = regions[n, _HEIGHT] / kind(bins.shape[1]), regions[n, _WIDTH] / kind(bins.shape[2])
    v = kind(place[0]) * bin_h - regions[n, _HEIGHT] * half
    v += (kind(within[0]) + half) * bin_h / kind(grids[n, 0])
    u = kind(place[1]) * bin_w - regions[n, _WIDTH] * half
    u += (kind(within[1]) + half) * bin_w / kind(grids[n, 1])
    y = v * regions[n, _COS] - u * regions[n, _SIN] + regions[n, _CY]
    x = v * regions[n, _SIN] + u * regions[n, _COS] + regions[n, _CX]
    outside = y < -one or y > kind(size[0]) or x < -one or x > kind(size[1])
    share = kind(0.0) if outside else one / kind(grids[n, 0] * grids[n, 1])
    y = min(max(y, kind(0.0)), kind(size[0] - 1))
    x = min(max(x, kind(0.0)), kind(size[1] - 1))
    top, left = int(y), int(x)
    down, right = y - kind(top), x - kind(left)
    low = int(regions[n, _IMAGE]) * steps[0] + top * steps[1] + left * steps[2]
    below = steps[1] if top < size[0] - 1 else 0
    beside = steps[2] if left < size[1] - 1 else 0
    w0, w1 = (one - down) * (one - right) * share, (one - down) * right * share
    w2, w3 = down * (one - right) * share, down * right * share
    return low, low + beside, low + below, low + below + beside, w0, w1, w2, w3


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
                for iy in range(grids[n, 0]):
                    for ix in range(grids[n, 1]):
                        p0, p1, p2, p3, w0, w1, w2, w3 = _taps(
                            regions, grids, steps, size, n, (row, column), (iy, ix), bins
                        )
                        for c in range(channels):
                            at = c * steps[3]
                            bins[n, row, column, c] += (
                                w0 * pixels[p0 + at]
                                + w1 * pixels[p1 + at]
                                + w2 * pixels[p2 + at]
                                + w3 * pixels[p3 + at]
                            )


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
                for iy in range(grids[n, 0]):
                    for ix in range(grids[n, 1]):
                        p0, p1, p2, p3, w0, w1, w2, w3 = _taps(
                            regions, grids, steps, size, n, (row, column), (iy, ix), bins
                        )
                        for c in range(start, stop):
                            at, slope = c * steps[3], bins[n, row, column, c]
                            pixels[p0 + at] += w0 * slope
                            pixels[p1 + at] += w1 * slope
                            pixels[p2 + at] += w2 * slope
                            pixels[p3 + at] += w3 * slope
