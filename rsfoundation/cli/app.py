"""The ``rsf`` program: its verbs, and the one place where errors become sentences."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from rsfoundation.cli import benchmark, browse, convert, demo, doctor, info, predict, prepare, test, train
from rsfoundation.cli.console import report_error
from rsfoundation.cli.notices import hold_back_notices
from rsfoundation.cli.options import complete_resume, expand_overrides

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
for module in (demo, train, test, predict, prepare, convert, browse, info, benchmark, doctor):
    module.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; every known error ends as one clear message and exit status 2."""
    hold_back_notices()
    _spin_less_on_shared_cores()
    words = complete_resume(expand_overrides(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(words, prog_name="rsf")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(report_error(error)) from None


def _spin_less_on_shared_cores() -> None:
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
