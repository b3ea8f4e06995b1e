"""What a data set left out or mended: counted, with the files it was found in."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from rsfoundation.core.errors import DataError

Policy = Literal["fail", "skip"]
SKIPPING = "--on-error skip (on_error='skip' in a config)"  # how a user asks for the second, in fixes
_NAMED = 3  # file names that the log gives of each kind


class DatasetReport(Counter[str]):
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
        return DatasetReport, (dict(self), self.files)

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


def note_or_raise(left_out: DatasetReport, kind: str, error: DataError, name: str, policy: Policy) -> None:
    """Apply the policy to something broken: raise ``error``, or count it as ``kind`` in file ``name``."""
    if policy == "fail":
        raise error
    left_out.note(kind, [name])
