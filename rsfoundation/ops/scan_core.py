"""What the two implementations of the selective scan share: shapes of their arguments and results."""

from typing import NamedTuple

from torch import Tensor

CHUNK = 64  # steps between two kept states; with 16 states, the two buffers of a chunk take 8 KB


class ScanInput(NamedTuple):
    """A scan in one floating type.

    Attributes:
        u: ``(images, channels, length)``.
        dt: Step sizes, like ``u``.
        a: ``(channels, n)``.
        b: ``(images, groups, length, n)``; channels are split evenly over groups.
        c: Like ``b``.
        reverse: Scan from the last token to the first.
    """

    u: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    reverse: bool


class ScanOutput(NamedTuple):
    """Result ``y`` like ``u``, the last ``state``, and the state before each chunk (``marks``)."""

    y: Tensor
    state: Tensor
    marks: Tensor


class ScanGrad(NamedTuple):
    """Gradients like what they belong to, and ``y`` once more (empty unless asked for)."""

    y: Tensor
    u: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    state: Tensor
