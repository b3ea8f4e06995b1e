"""What is wrong with an archive, collected before anything is said."""

from collections import Counter
from dataclasses import dataclass, field
from math import isfinite

from rsfoundation.errors import DataError

_MOST = 1000  # faults that are worth keeping


@dataclass(frozen=True)
class Fault:
    """One thing that the server would refuse or score as nothing.

    Attributes:
        where: Archive, file in it and line.
        what: What was found and what was expected.
        cure: What mends it.
        kind: Equal for all faults of one sort.
    """

    where: str
    what: str
    cure: str
    kind: str


@dataclass
class Faults:
    """The faults of one archive."""

    found: list[Fault] = field(default_factory=list)

    def add(self, kind: str, where: str, what: str, cure: str) -> None:
        """Note a fault; after a thousand, one more tells nothing new."""
        if len(self.found) < _MOST:
            self.found.append(Fault(where, what, cure, kind))

    def refuse(self) -> None:
        """Raise the first fault, with the number of others of each kind.

        Raises:
            DataError: There is a fault.
        """
        if not self.found:
            return
        first, others = self.found[0], Counter(fault.kind for fault in self.found[1:])
        told = ", ".join(f"{count} x {kind}" for kind, count in others.items())
        more = f"; further faults: {told}{' and more' if len(self.found) == _MOST else ''}" if others else ""
        raise DataError(
            f"the server would not accept this: {first.what}{more}", where=first.where, cure=first.cure
        )


def bad_score(text: str) -> str | None:
    """Say what is wrong with a score, if anything is."""
    try:
        score = float(text)
    except ValueError:
        return f"the score {text!r} is no number"
    return None if 0 <= score <= 1 else f"the score {text} is outside 0..1"


def numbers(fields: list[str]) -> list[float] | None:
    """Return finite numbers, or ``None`` where a field is none."""
    try:
        values = [float(text) for text in fields]
    except ValueError:
        return None
    return values if all(map(isfinite, values)) else None


def area(corners: list[float]) -> float:
    """Return the area within ``x1 y1 x2 y2 x3 y3 x4 y4``; 0 for crossed or collinear ones."""
    points = list(zip(corners[0::2], corners[1::2], strict=True))

    def turn(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    halves, others = (turn(0, 1, 2), turn(0, 2, 3)), (turn(1, 2, 3), turn(1, 3, 0))
    # each diagonal of a crossed one has both triangles on one side of it
    crossed = halves[0] * halves[1] < 0 and others[0] * others[1] < 0
    return 0.0 if crossed else abs(sum(halves)) / 2
