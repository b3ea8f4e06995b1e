"""RoIAlign over rotated regions; feature maps come as ``(batch, height, width, channels)``.

Rounding follows mmcv's CPU operator: positions are computed in the type of the features, so that
both pick the same pixels. The innermost loop runs over channels, which vectorises when they are
contiguous and still works when they are not.
"""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel


@kernel
def grid_size(extent: float, pooled: int, sampling_ratio: int) -> int:
    """Return samples per bin along one side: given, or the bin size in pixels rounded up."""
    if sampling_ratio > 0:
        return sampling_ratio
    return int(np.ceil(np.float32(extent / pooled)))


@kernel
def _regions(rois: np.ndarray, scale: float, aligned: bool, clockwise: bool) -> np.ndarray:
    """Return ``(n, 6)``: centre x, y, width, height (feature pixels), cosine, sine."""
    kind = rois.dtype.type
    result = np.empty((len(rois), 6), rois.dtype)
    shift = kind(0.5 if aligned else 0.0)
    for n in range(len(rois)):
        width, height = rois[n, 3] * kind(scale), rois[n, 4] * kind(scale)
        if not aligned:
            width, height = max(width, kind(1.0)), max(height, kind(1.0))
        theta = -rois[n, 5] if clockwise else rois[n, 5]
        result[n, 0], result[n, 1] = rois[n, 1] * kind(scale) - shift, rois[n, 2] * kind(scale) - shift
        result[n, 2], result[n, 3] = width, height
        result[n, 4], result[n, 5] = np.cos(theta), np.sin(theta)
    return result


@kernel
def _bin_taps(
    region: np.ndarray,
    row: int,
    column: int,
    rows: int,
    columns: int,
    sampling: int,
    height: int,
    width: int,
    places: np.ndarray,
    weights: np.ndarray,
) -> int:
    """List the bilinear taps of one bin.

    Writes ``(count, 4)`` of y_low, x_low, y_high, x_high and the four weights, each already divided by the
    number of samples in the bin; samples outside the map are left out. Returns the count.
    """
    kind = region.dtype.type
    one, half = kind(1.0), kind(0.5)
    grid_h, grid_w = grid_size(region[3], rows, sampling), grid_size(region[2], columns, sampling)
    bin_h, bin_w = region[3] / kind(rows), region[2] / kind(columns)
    share = one / kind(max(grid_h * grid_w, 1))
    count = 0
    for iy in range(grid_h):
        v = -region[3] * half + kind(row) * bin_h + (kind(iy) + half) * bin_h / kind(grid_h)
        for ix in range(grid_w):
            u = -region[2] * half + kind(column) * bin_w + (kind(ix) + half) * bin_w / kind(grid_w)
            y = v * region[4] - u * region[5] + region[1]
            x = v * region[5] + u * region[4] + region[0]
            if y < -one or y > kind(height) or x < -one or x > kind(width):
                continue
            y, x = max(y, kind(0.0)), max(x, kind(0.0))
            y_low, x_low = min(int(y), height - 1), min(int(x), width - 1)
            y_high, x_high = min(y_low + 1, height - 1), min(x_low + 1, width - 1)
            down = y - kind(y_low) if y_low < height - 1 else kind(0.0)
            right = x - kind(x_low) if x_low < width - 1 else kind(0.0)
            places[count, 0], places[count, 1] = y_low, x_low
            places[count, 2], places[count, 3] = y_high, x_high
            weights[count, 0], weights[count, 1] = (
                (one - down) * (one - right) * share,
                (one - down) * right * share,
            )
            weights[count, 2], weights[count, 3] = down * (one - right) * share, down * right * share
            count += 1
    return count


@kernel
def _most_samples(regions: np.ndarray, rows: int, columns: int, sampling: int) -> int:
    most = 1
    for region in regions:
        most = max(most, grid_size(region[3], rows, sampling) * grid_size(region[2], columns, sampling))
    return most


@kernel
def pool(
    features: np.ndarray,
    rois: np.ndarray,
    out: np.ndarray,
    scale: float,
    sampling: int,
    aligned: bool,
    clockwise: bool,
    start: int,
    stop: int,
) -> None:
    """Fill ``out[start:stop]``.

    Args:
        features: ``(batch, height, width, channels)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta; same type as ``features``.
        out: ``(n, channels, rows, columns)``.
        scale: Feature pixels per input pixel.
        sampling: Samples per bin along each side; 0 for one per pixel.
        aligned: Shift by half a pixel, and let regions be smaller than one.
        clockwise: Sense of positive angles.
        start: First region.
        stop: Region after the last.
    """
    height, width, channels = features.shape[1:]
    rows, columns = out.shape[2:]
    regions = _regions(rois[start:stop], scale, aligned, clockwise)
    most = _most_samples(regions, rows, columns, sampling)
    places, weights = np.empty((most, 4), np.int64), np.empty((most, 4), features.dtype)
    total = np.empty(channels, features.dtype)
    for n in range(start, stop):
        image = features[int(rois[n, 0])]
        for row in range(rows):
            for column in range(columns):
                count = _bin_taps(
                    regions[n - start], row, column, rows, columns, sampling, height, width, places, weights
                )
                total[:] = 0
                for k in range(count):
                    w0, w1, w2, w3 = weights[k]
                    a, b = image[places[k, 0], places[k, 1]], image[places[k, 0], places[k, 3]]
                    c, d = image[places[k, 2], places[k, 1]], image[places[k, 2], places[k, 3]]
                    for channel in range(channels):
                        total[channel] += (
                            w0 * a[channel] + w1 * b[channel] + w2 * c[channel] + w3 * d[channel]
                        )
                out[n, :, row, column] = total


@kernel
def spread(
    grad: np.ndarray,
    rois: np.ndarray,
    out: np.ndarray,
    scale: float,
    sampling: int,
    aligned: bool,
    clockwise: bool,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of ``pool`` to channels ``start..stop`` of ``out``.

    Arguments as in ``pool``, with ``grad`` like its result and ``out`` like its features.
    """
    height, width = out.shape[1:3]
    rows, columns = grad.shape[2:]
    regions = _regions(rois, scale, aligned, clockwise)
    most = _most_samples(regions, rows, columns, sampling)
    places, weights = np.empty((most, 4), np.int64), np.empty((most, 4), out.dtype)
    part = np.empty(stop - start, out.dtype)
    for n in range(len(rois)):
        image = out[int(rois[n, 0])]
        for row in range(rows):
            for column in range(columns):
                count = _bin_taps(
                    regions[n], row, column, rows, columns, sampling, height, width, places, weights
                )
                part[:] = grad[n, start:stop, row, column]
                for k in range(count):
                    for corner in range(4):
                        weight = weights[k, corner]
                        cell = image[places[k, corner // 2 * 2], places[k, corner % 2 * 2 + 1], start:stop]
                        for channel in range(len(part)):
                            cell[channel] += weight * part[channel]
