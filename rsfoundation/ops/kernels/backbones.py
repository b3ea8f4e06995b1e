"""CPU kernels for backbones: the weight gradient of a depth-wise convolution, attention within windows."""

import numpy as np

from rsfoundation.ops.kernels import ATTENTION_WINDOW as WINDOW
from rsfoundation.ops.kernels import DEPTHWISE_LANES as LANES
from rsfoundation.ops.kernels.runtime import exp, inlined, summing_kernel

PLACES = WINDOW**2
WIDE = -(-PLACES // 8) * 8  # scores of a query, rounded up to whole registers
CHANNEL_STEP = 4  # channels of the keys that one pass over the scores takes


@summing_kernel
def depthwise_weight_gradient(
    maps: np.ndarray,
    slopes: np.ndarray,
    out: np.ndarray,
    sums: np.ndarray,
    padded: np.ndarray,
    line: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add to ``out`` for blocks of ``LANES`` channels ``start..stop``, for channels-last maps.

    A block of channels is copied out of its maps first: pixels then follow each other in memory, where
    otherwise they would be as far apart as there are channels, and compete for the same places of the cache.
    Two neighbouring taps of the kernel are summed at once over four pixels: of the values that these need,
    most are read once.

    Args:
        maps: The convolution's input, ``(images, height, width, channels)``.
        slopes: The gradient of its result, of the same shape.
        out: ``(rows * columns of the kernel, channels)``.
        sums: Scratch ``(rows, columns + 1, LANES)``, zero at first: an image's sums, for fewer roundings.
        padded: Scratch ``(height, (w + columns) * LANES)``, zero at first: maps with zeros around. ``w`` is
            the width rounded up to four pixels.
        line: Scratch ``(w * LANES,)``, zero at first: a line of slopes.
        start: First block.
        stop: After the last.
    """
    images, height, width, _ = maps.shape
    rows, columns = sums.shape[0], sums.shape[1] - 1
    whole = (width + 3) // 4 * 4 * LANES  # with len(line) as the bound the sums do not vectorise
    for item in range(start * images, stop * images):
        first, image = item // images * LANES, item % images
        for y in range(height):
            for x in range(width):
                place = (columns // 2 + x) * LANES
                source, target = maps[image, y, x, first : first + LANES], padded[y, place : place + LANES]
                for lane in range(LANES):
                    target[lane] = source[lane]
        for y in range(height):
            for x in range(width):
                source = slopes[image, y, x, first : first + LANES]
                for lane in range(LANES):
                    line[x * LANES + lane] = source[lane]
            for row in range(rows):
                other = y + row - rows // 2
                if other < 0 or other >= height:
                    continue
                # the last of an odd number of taps has a neighbour that is not used
                for column in range(0, columns, 2):
                    values = padded[other, column * LANES :]
                    one, two = sums[row, column], sums[row, column + 1]
                    for at in range(0, whole, 4 * LANES):
                        for lane in range(LANES):
                            i = at + lane
                            a, b = values[i + LANES], values[i + 2 * LANES]
                            c = values[i + 3 * LANES]
                            g0, g1 = line[i], line[i + LANES]
                            g2, g3 = line[i + 2 * LANES], line[i + 3 * LANES]
                            left = values[i] * g0 + a * g1 + b * g2 + c * g3
                            right = a * g0 + b * g1 + c * g2 + values[i + 4 * LANES] * g3
                            one[lane] += left
                            two[lane] += right
        for row in range(rows):
            for column in range(columns):
                for lane in range(LANES):
                    out[row * columns + column, first + lane] += sums[row, column, lane]
            for column in range(columns + 1):
                for lane in range(LANES):
                    sums[row, column, lane] = 0.0


@inlined
def _token(i: int, image: int, row: int, column: int, grid: tuple[int, ...]) -> int:
    """Return which token is at place ``i`` of a window, or -1 where that is not on the map."""
    height, width, shift, rows, columns = grid
    y, x = row * WINDOW + i // WINDOW + shift, column * WINDOW + i % WINDOW + shift
    if y >= rows * WINDOW:
        y -= rows * WINDOW
    if x >= columns * WINDOW:
        x -= columns * WINDOW
    return (image * height + y) * width + x if y < height and x < width else -1


@summing_kernel
def attend(
    qkv: np.ndarray,
    padding: np.ndarray,
    bias: np.ndarray,
    grid: tuple[int, ...],
    scale: float,
    out: np.ndarray,
    query: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    scores: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write ``out`` for windows and heads ``start..stop``, heads counted first.

    Attention within windows goes from map to map: neither is split into windows.

    Args:
        qkv: ``(images * height * width, 3, heads, channels)``: query, key and value of each token.
        padding: ``(3, heads, channels)``, those of the tokens that fill up the end of the map.
        bias: ``(tables, heads, 49, WIDE)``, added to the scores, of a query in a row; minus infinity after
            the 49th. The first table is for all windows without a shift; with one, the tables are for windows
            inside, in the last row, in the last column, and in both.
        grid: Height and width of the map, by how much it is rolled up and left, rows and columns of windows.
        scale: Factor of the queries.
        out: ``(images * height * width, heads, channels)``.
        query: Scratch ``(channels,)``, zero like all below where it is not written here; channels rounded up
            to a multiple of ``CHANNEL_STEP``.
        keys: Scratch ``(channels, WIDE)``.
        values: Scratch ``(49, channels)``.
        scores: Scratch ``(WIDE,)``.
        start: First pair of window and head.
        stop: After the last.
    """
    _, _, shift, rows, columns = grid
    heads, channels = out.shape[1], out.shape[2]
    for item in range(start, stop):
        head, window = item % heads, item // heads
        column, row, image = window % columns, window // columns % rows, window // columns // rows
        table = 0
        if shift > 0:
            table = int(row == rows - 1) + 2 * int(column == columns - 1)
        for i in range(PLACES):
            token = _token(i, image, row, column, grid)
            key = padding[1, head] if token < 0 else qkv[token, 1, head]
            value = padding[2, head] if token < 0 else qkv[token, 2, head]
            target = values[i]
            for c in range(channels):
                keys[c, i] = key[c]
                target[c] = value[c]
        for i in range(PLACES):
            token = _token(i, image, row, column, grid)
            if token < 0:
                continue
            source, added, target = qkv[token, 0, head], bias[table, head, i], out[token, head]
            for c in range(channels):
                query[c] = source[c] * scale
            for j in range(WIDE):
                scores[j] = added[j]
            for c in range(0, channels, CHANNEL_STEP):
                q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
                k0, k1, k2, k3 = keys[c], keys[c + 1], keys[c + 2], keys[c + 3]
                for j in range(WIDE):
                    scores[j] += q0 * k0[j] + q1 * k1[j] + q2 * k2[j] + q3 * k3[j]
            best = scores[0]
            for j in range(WIDE):
                best = max(best, scores[j])
            total = best - best
            for j in range(WIDE):
                scores[j] = exp(scores[j] - best)
                total += scores[j]
            for j in range(WIDE):
                scores[j] /= total
            for c in range(channels):
                target[c] = 0
            for j in range(0, PLACES, WINDOW):  # seven values at a time
                s0, s1, s2, s3 = scores[j], scores[j + 1], scores[j + 2], scores[j + 3]
                s4, s5, s6 = scores[j + 4], scores[j + 5], scores[j + 6]
                v0, v1, v2, v3 = values[j], values[j + 1], values[j + 2], values[j + 3]
                v4, v5, v6 = values[j + 4], values[j + 5], values[j + 6]
                for c in range(channels):
                    value = s0 * v0[c] + s1 * v1[c] + s2 * v2[c] + s3 * v3[c]
                    target[c] += value + s4 * v4[c] + s5 * v5[c] + s6 * v6[c]
