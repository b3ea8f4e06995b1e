"""Holding back lines that upstream toolboxes print at import about things nobody here uses."""

import sys
from typing import Any, TextIO

_NOTICES = ("Could not import OneDL", "Could not import OneDL. Skipping OneDL datasets.")


class _WithoutNotices:
    """A text stream that drops those lines and passes everything else on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        # print() writes the text and its line end separately
        line_end = self._dropped and text == "\n"
        self._dropped = text.strip() in _NOTICES
        return len(text) if line_end or self._dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def hold_back_notices() -> None:
    """Filter this process's standard output; a second call changes nothing."""
    if not isinstance(sys.stdout, _WithoutNotices):
        sys.stdout = _WithoutNotices(sys.stdout)
