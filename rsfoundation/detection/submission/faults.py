"""What is wrong with an archive, collected before anything is said."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

_MOST = 1000  # faults that are worth keeping


class Finding(NamedTuple):
    """Something wrong, wherever it stands.

    Attributes:
        kind: Equal for all of one sort.
        what: What was found and what was expected.
        cure: What mends it.
    """

    kind: str
    what: str
    cure: str


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
    """The faults of one archive.

    Attributes:
        found: The first thousand; one more tells nothing new.
        counts: How many there are of each kind, those that were not kept among them.
    """

    found: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, where: str, finding: Finding) -> None:
        """Note a fault and its place: archive, file in it and line."""
        self.counts[finding.kind] += 1
        if len(self.found) < _MOST:
            self.found.append(Fault(where, finding.what, finding.cure, finding.kind))
