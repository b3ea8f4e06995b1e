"""Lines of results to text, many at once: most of the time of writing a submission otherwise."""

from collections.abc import Sequence

import numpy as np

from rsfoundation.ops.kernels.jit import inlined, kernel

_SIGNIFICANT = 9  # digits that tell any two float32 apart
_BLANK, _POINT, _MINUS, _ZERO, _NEWLINE = 32, 46, 45, 48, 10
_MOST = 14  # characters of one number: blank, sign, nine digits, point, two digits


@inlined
def _put(out: np.ndarray, place: int, digits: int, decimals: int) -> int:
    """Write ``digits`` with that many of them behind the point; return where they end."""
    length, rest = 1, digits // 10
    while rest > 0:
        length += 1
        rest //= 10
    if decimals > 0:
        length = max(length, decimals + 1) + 1  # a zero before the point, and the point
    for position in range(length - 1, -1, -1):  # last first
        if decimals > 0 and position == length - 1 - decimals:
            out[place + position] = _POINT
        else:
            out[place + position] = _ZERO + digits % 10
            digits //= 10
    return place + length


@kernel
def _write(name: np.ndarray, scores: np.ndarray, hundredths: np.ndarray, out: np.ndarray) -> int:
    """Write ``name score numbers`` for each row of ``hundredths`` (n, k); return how many bytes that takes.

    ``scores`` (n, w) are texts filled up with zero bytes.
    """
    place = 0
    for row in range(hundredths.shape[0]):
        for letter in name:
            out[place] = letter
            place += 1
        out[place] = _BLANK
        place += 1
        for column in range(scores.shape[1]):
            if scores[row, column] == 0:
                break
            out[place] = scores[row, column]
            place += 1
        for column in range(hundredths.shape[1]):
            value = hundredths[row, column]
            out[place] = _BLANK
            place += 1
            if value < 0:
                out[place] = _MINUS
                place += 1
                value = -value
            place = _put(out, place, value, 2)
        out[place] = _NEWLINE
        place += 1
    return place


@kernel
def _print(values: np.ndarray, out: np.ndarray) -> None:
    """Write each of ``values`` (n,), not negative, to a row of ``out`` (n, w), zero bytes after it."""
    for row in range(len(values)):
        number, decimals = values[row], 0
        while 0 < number < 10.0 ** (_SIGNIFICANT - 1):
            number *= 10.0
            decimals += 1
        digits = np.int64(np.rint(number))
        while decimals > 0 and digits % 10 == 0:  # of zero, too
            digits //= 10
            decimals -= 1
        _put(out[row], 0, digits, decimals)


def score_texts(scores: np.ndarray) -> np.ndarray:
    """Return a text ``(n,)`` of each score that reads back as the same float32, without exponents.

    Args:
        scores: ``(n,)``, 0 to 10^9.
    """
    values = np.asarray(scores, dtype=np.float32).astype(np.float64)
    least = values[values > 0].min(initial=1.0)
    width = int(np.ceil(-np.log10(least))) + _SIGNIFICANT + 4
    out = np.zeros((len(values), width), np.uint8)
    _print(values, out)
    return out.view(f"S{width}")[:, 0]


def result_lines(name: str, scores: Sequence[str] | np.ndarray, table: np.ndarray) -> bytes:
    """Return a line for each row of ``table``: ``name score 1.25 -0.50``, numbers with two decimals.

    Args:
        name: Stands first in each line.
        scores: ``n`` texts.
        table: ``(n, k)`` numbers under 10^9.
    """
    if not len(table):
        return b""
    letters = np.frombuffer(name.encode(), np.uint8)
    texts = np.array(scores, dtype="S")
    bytes_of = texts.view(np.uint8).reshape(len(texts), -1)
    hundredths = np.rint(np.asarray(table, dtype=np.float64) * 100).astype(np.int64)
    most = len(letters) + bytes_of.shape[1] + 2 + _MOST * table.shape[1]
    out = np.empty(len(table) * most, np.uint8)
    return out[: _write(letters, bytes_of, hundredths, out)].tobytes()
