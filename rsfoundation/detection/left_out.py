"""What a data set left out or mended: counted, with the files it was found in."""

from collections import Counter
from collections.abc import Mapping

from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import Policy

_NAMED = 3  # file names that the log gives of each kind


class LeftOut(Counter[str]):
    """Counts by kind, and in :attr:`files` where each kind was found.

    Attributes:
        files: Names of the files, in the order they were read, without repeats.
    """

    def __init__(
        self, counts: Mapping[str, int] | None = None, files: Mapping[str, list[str]] | None = None
    ) -> None:
        super().__init__(counts or {})
        self.files: dict[str, list[str]] = dict(files or {})

    def __reduce__(self) -> tuple:
        return LeftOut, (dict(self), self.files)

    def note(self, kind: str, files: list[str]) -> None:
        """Count one case per entry of ``files``; nothing where there is none."""
        if files:
            self[kind] += len(files)
            self.files[kind] = list(dict.fromkeys([*self.files.get(kind, []), *files]))

    def sentence(self) -> str:
        """Return all counts with the first files of each, for the log."""
        return "; ".join(f"{self[kind]} {kind} ({self._where(kind)})" for kind in sorted(self))

    def _where(self, kind: str) -> str:
        files = self.files[kind]
        more = f" and {len(files) - _NAMED} more files" if len(files) > _NAMED else ""
        return ", ".join(files[:_NAMED]) + more


def note_or_raise(left_out: LeftOut, kind: str, error: DataError, name: str, policy: Policy) -> None:
    """Apply the policy to something broken: raise ``error``, or count it as ``kind`` in file ``name``."""
    if policy == "fail":
        raise error
    left_out.note(kind, [name])
