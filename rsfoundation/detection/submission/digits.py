"""Numbers to text with two decimals, many at once: half of the time of writing a submission otherwise."""

from itertools import pairwise

import numpy as np

from rsfoundation.ops.kernels.jit import kernel

_BLANK, _POINT, _MINUS, _ZERO = 32, 46, 45, 48
_MOST = 14  # characters of one number: blank, sign, nine digits, point, two digits


@kernel
def _write(hundredths: np.ndarray, out: np.ndarray, ends: np.ndarray) -> None:
    """Write rows of numbers, a blank before each; ``ends`` (n,) tells where each row ends in ``out``."""
    place = 0
    for row in range(hundredths.shape[0]):
        for column in range(hundredths.shape[1]):
            value = hundredths[row, column]
            out[place] = _BLANK
            place += 1
            if value < 0:
                out[place] = _MINUS
                place += 1
                value = -value
            length, rest = 3, value // 1000
            while rest > 0:
                length += 1
                rest //= 10
            for position in range(length, -1, -1):  # digits and the point, last first
                if position == length - 2:
                    out[place + position] = _POINT
                else:
                    out[place + position] = _ZERO + value % 10
                    value //= 10
            place += length + 1
        ends[row] = place


def two_decimals(table: np.ndarray) -> list[str]:
    """Return each row of ``(n, k)`` numbers under 10^9 as text, such as `` 1.25 -0.50``."""
    hundredths = np.rint(np.asarray(table, dtype=np.float64) * 100).astype(np.int64)
    out, ends = np.empty(hundredths.size * _MOST, np.uint8), np.zeros(len(hundredths), np.int64)
    _write(hundredths, out, ends)
    text = out[: ends[-1] if len(ends) else 0].tobytes().decode("ascii")
    return [text[start:end] for start, end in pairwise([0, *ends.tolist()])]
