"""Holding back lines that upstream toolboxes print about things nobody here uses or can act upon."""

import logging
import sys
import warnings
from typing import Any, TextIO

_NOTICES = ("Could not import OneDL", "Could not import OneDL. Skipping OneDL datasets.")
# mmseg's advice on how to write heads and losses: the published settings are what they are
_ADVICE = ("For binary segmentation, we suggest using", "Default ``avg_non_ignore`` is False")
# DeepSpeed says so wherever it is installed beside a CPU, used or not
_DEEPSPEED = "Setting accelerator to CPU"


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
    """Filter this process's standard output, warnings and log; a second call changes nothing."""
    if isinstance(sys.stdout, _WithoutNotices):
        return
    sys.stdout = _WithoutNotices(sys.stdout)
    logging.getLogger("DeepSpeed").addFilter(lambda record: not record.getMessage().startswith(_DEEPSPEED))
    for start in _ADVICE:
        warnings.filterwarnings("ignore", message=start)
