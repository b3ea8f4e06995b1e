"""Attention within windows of 7x7 tokens (Swin), from map to map without cutting either.

Scores and mixtures are formed for two queries at a time, whose sums stay in registers. Scratch arrays are as
wide as whole registers: ``WIDE`` scores of a query, of which the last are no places of the window, and
channels of a head rounded up to ``CHANNELS``.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from rsfoundation.ops.kernels import ATTENTION_WINDOW as WINDOW
from rsfoundation.ops.kernels.runtime import exp, larger, pack, straight, summing_kernel, unpack, where

PLACES = WINDOW**2
LANES = 8  # numbers that go through one instruction; processors with shorter registers take more
WIDE = -(-PLACES // LANES) * LANES
CHANNELS = 4 * LANES
QUERIES = PLACES + 1  # an even number

_exp = straight(exp)


def _products(factors: Any, i: Any, place: Any, rows: Any, starts: Iterable[Any]) -> list[Any]:
    """Multiply a factor of queries ``i`` and ``i + 1`` each by parts of a row."""
    parts = [rows.load((place, start), LANES) for start in starts]
    return [pack(*[factors[query, place]] * LANES) * part for query in (i, i + 1) for part in parts]


@straight
def _score(scores: Any, i: Any, queries: Any, keys: Any, channel: Any) -> None:
    """Add to the scores of two queries what a few channels from ``channel`` on contribute."""
    blocks = range(0, WIDE, LANES)
    spots = [(query, block) for query in (i, i + 1) for block in blocks]
    totals = [scores.load(spot, LANES) for spot in spots]
    for step in range(LANES):
        totals = list(map(add, totals, _products(queries, i, channel + step, keys, blocks)))
    for spot, total in zip(spots, totals, strict=True):
        scores.store(spot, total)


@straight
def _mix(mixed: Any, i: Any, scores: Any, values: Any, channel: Any) -> None:
    """Write channels from ``channel`` on of the means of values, weighted by the scores of two queries."""
    blocks = [channel + block for block in range(0, CHANNELS, LANES)]
    terms = (_products(scores, i, place, values, blocks) for place in range(PLACES))
    totals = reduce(lambda sums, products: list(map(add, sums, products)), terms)
    for query in (i, i + 1):
        share = pack(*[1 / _sideways(scores, query, add)] * LANES)
        for block in blocks:
            mixed.store((query, block), totals.pop(0) * share)


def _sideways(scores: Any, i: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Join all scores of a query into one number."""
    registers = [scores.load((i, block), LANES) for block in range(0, WIDE, LANES)]
    return reduce(join, unpack(reduce(join, registers), LANES))


@straight
def _largest(scores: Any, i: Any) -> Any:
    return _sideways(scores, i, larger)


@straight
def _window(item: Any, heads: Any, grid: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return head, image, first row and column in the rolled map, and which table of ``bias`` holds."""
    _, _, shift, rows, columns = grid
    window = item // heads
    column, row = window % columns, window // columns % rows
    table = where(row == rows - 1, 1, column * 0) + where(column == columns - 1, 2, column * 0)
    return item % heads, window // columns // rows, row * WINDOW, column * WINDOW, where(shift > 0, table, 0)


@straight
def _token(i: Any, image: Any, top: Any, left: Any, grid: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return which token is at place ``i`` of a window, and whether it lies on the map; if not, any token."""
    height, width, shift, rows, columns = grid
    y, x = top + i // WINDOW + shift, left + i % WINDOW + shift
    y = where(y < rows * WINDOW, y, y - rows * WINDOW)
    x = where(x < columns * WINDOW, x, x - columns * WINDOW)
    inside = (y < height) & (x < width)
    return where(inside, (image * height + y) * width + x, 0), inside


@straight
def _entry(qkv: Any, padding: Any, token: Any, inside: Any, part: Any, head: Any, c: Any) -> Any:
    return where(inside, qkv[token, part, head, c], padding[part, head, c])


@summing_kernel
def attend(
    qkv: np.ndarray,
    padding: np.ndarray,
    bias: np.ndarray,
    grid: tuple[int, ...],
    scale: float,
    out: np.ndarray,
    places: np.ndarray,
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    scores: np.ndarray,
    mixed: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Write ``out`` for windows and heads ``start..stop``, heads counted first.

    Args:
        qkv: ``(images * height * width, 3, heads, channels)``: query, key and value of each token.
        padding: ``(3, heads, channels)``, those of the tokens that fill up the map's end.
        bias: ``(tables, heads, 49, WIDE)``, added to the scores, of a query in a row; minus infinity after
            the 49th. The first table is for all windows without a shift; with one, the tables are for windows
            inside, in the last row, in the last column, and in both.
        grid: Height and width of the map, by how much it is rolled up and left, rows and columns of windows.
        scale: Factor of the queries.
        out: ``(images * height * width, heads, channels)``.
        places: Scratch ``(49,)``: which tokens the queries are.
        queries: Scratch ``(QUERIES, channels)``, zero like all below where it is not written here.
        keys: Scratch ``(channels, WIDE)``.
        values: Scratch ``(49, channels)``.
        scores: Scratch ``(QUERIES, WIDE)``.
        mixed: Scratch ``(QUERIES, channels)``.
        start: First pair of window and head.
        stop: After the last.
    """
    heads, channels = out.shape[1], out.shape[2]
    for item in range(start, stop):
        head, image, top, left, table = _window(item, heads, grid)
        count = 0
        for i in range(PLACES):
            token, inside = _token(i, image, top, left, grid)
            for c in range(channels):
                keys[c, i] = _entry(qkv, padding, token, inside, 1, head, c)
            for c in range(channels):
                values[i, c] = _entry(qkv, padding, token, inside, 2, head, c)
            if inside:
                for c in range(channels):
                    queries[count, c] = qkv[token, 0, head, c] * scale
                for j in range(WIDE):
                    scores[count, j] = bias[table, head, i, j]
                places[count] = token
                count += 1
        for i in range(0, count, 2):
            for c in range(0, channels, LANES):
                _score(scores, i, queries, keys, c)
        for i in range(count):
            best = _largest(scores, i)
            for j in range(WIDE):
                scores[i, j] = _exp(scores[i, j] - best)
        for i in range(0, count, 2):
            for c in range(0, channels, CHANNELS):
                _mix(mixed, i, scores, values, c)
        for i in range(count):
            for c in range(channels):
                out[places[i], head, c] = mixed[i, c]
