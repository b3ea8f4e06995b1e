"""The ``rsf`` program: its verbs, its process settings, and the one place that prints errors."""

from __future__ import annotations

import ctypes
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TextIO

import typer

from rsfoundation.cli.console import report_error
from rsfoundation.cli.options import CFG_OPTIONS

# One module of this folder each; imported by name, and light: `rsf --help` loads no framework.
VERBS = (
    *("demo", "train", "test", "predict", "prepare", "check", "browse", "convert", "export", "info"),
    *("submission", "benchmark", "doctor"),
)

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names in glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # that it takes


def keep_freed_memory() -> None:
    """Let glibc keep up to 2 GiB of freed memory for later allocations.

    It returns more than a little to the system at once, and every page of the next activation causes a page
    fault again: tens of thousands in a training step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_TRIM_THRESHOLD, (2 << 30) - 1)
    mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)


_IGNORED_LINES = ("Could not import OneDL", "Could not import OneDL. Skipping OneDL datasets.")
# mmseg's advice on how to write heads and losses: the published settings are fixed
_IGNORED_WARNINGS = ("For binary segmentation, we suggest using", "Default ``avg_non_ignore`` is False")
_DEEPSPEED = "Setting accelerator to CPU"  # logged wherever DeepSpeed is installed on a CPU, used or not


class _LineFilter:
    """A text stream that drops the ignored lines and passes everything else to another stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        # print() writes the text and its line end separately
        line_end = self._dropped and text == "\n"
        self._dropped = text.strip() in _IGNORED_LINES
        return len(text) if line_end or self._dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def filter_output() -> None:
    """Filter this process's standard output, warnings and log; a second call changes nothing."""
    if isinstance(sys.stdout, _LineFilter):
        return
    sys.stdout = _LineFilter(sys.stdout)
    logging.getLogger("DeepSpeed").addFilter(lambda record: not record.getMessage().startswith(_DEEPSPEED))
    for start in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=start)


def expand_overrides(words: list[str]) -> list[str]:
    """Let ``--cfg-options a=1 b=2`` take several values, as every MMEngine user writes it."""
    out: list[str] = []
    taking = False
    for word in words:
        if word == CFG_OPTIONS:
            taking = True
        elif taking and "=" in word and not word.startswith("-"):
            out += [CFG_OPTIONS, word]
        else:
            if taking and (not out or out[-2:-1] != [CFG_OPTIONS]):
                out.append(CFG_OPTIONS)
            taking = False
            out.append(word)
    return out


def complete_resume(words: list[str]) -> list[str]:
    """Let a bare ``--resume`` mean ``--resume auto``, as every MMEngine user writes it."""
    out: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        out.append(word)
        if word == "--resume" and not (following == "auto" or following.endswith(".pth")):
            out.append("auto")
    return out


app = typer.Typer(
    name="rsf",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Remote-sensing vision: detection, segmentation, instances, change and recognition in one program.",
    epilog="First time here? [bold]rsf demo[/bold] trains a small model and shows its pictures.",
)
for _verb in VERBS:
    import_module(f"rsfoundation.cli.{_verb}").register(app)


def leave_process_group() -> None:
    """Leave the process group of several ranks after a run that has come to its end on all of them.

    Threads of gloo that are still there when the interpreter ends abort the process now and then: a complete
    run then counts as failed (seen with torch 2.13, pull request 179291 of pytorch). After an error the
    others may be waiting in a collective operation, and leaving would wait for them.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    if distributed.get_world_size() > 1:
        distributed.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; every known error ends as one clear message and exit status 2."""
    filter_output()
    keep_freed_memory()
    words = complete_resume(expand_overrides(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(words, prog_name="rsf")
    except SystemExit:  # how typer ends, with any status
        leave_process_group()
        raise
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(report_error(error)) from None
