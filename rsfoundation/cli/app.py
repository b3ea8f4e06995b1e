"""The ``rsf`` program: its verbs, and the one place where errors become sentences."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import typer

from rsfoundation.cli import (
    benchmark,
    browse,
    convert,
    demo,
    doctor,
    info,
    predict,
    prepare,
    submission,
    test,
    train,
)
from rsfoundation.cli.console import report_error
from rsfoundation.cli.options import complete_resume, expand_overrides

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # that it takes


def reduce_spin_waiting() -> None:
    """Let torch's threads give up their core soon while they wait, if other programs are at work now.

    Spinning long makes several programs on the same cores several times slower; waking a thread that does
    not spin makes one alone up to twice as slow. Only GNU's OpenMP, thus Linux, reads the variable.
    """
    try:
        running = Path("/proc/loadavg").read_text().split()[3].split("/")[0]
    except OSError:
        return
    others = int(running) - 1
    if others >= max(1, (os.cpu_count() or 1) // 2):
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def keep_freed_memory() -> None:
    """Let glibc keep up to 2 GiB that were freed for what is allocated next.

    It returns more than a little to the system at once, and every page of the next activation is faulted in
    again: tens of thousands in a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_TRIM_THRESHOLD, (2 << 30) - 1)
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)


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


app = typer.Typer(
    name="rsf",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Remote-sensing vision: one program for oriented detection, segmentation, instances and change.",
    epilog="First time here? [bold]rsf demo[/bold] trains a small model and shows its pictures.",
)
for module in (demo, train, test, predict, prepare, convert, browse, info, submission, benchmark, doctor):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; every known error ends as one clear message and exit status 2."""
    hold_back_notices()
    reduce_spin_waiting()
    keep_freed_memory()
    words = complete_resume(expand_overrides(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(words, prog_name="rsf")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(report_error(error)) from None
