"""The ``rsf`` program: its verbs, and the one place where errors become sentences."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from rsfoundation.cli import benchmark, browse, convert, demo, doctor, info, predict, prepare, test, train
from rsfoundation.cli.console import report_error
from rsfoundation.cli.cpu import keep_freed_memory, spin_less_on_shared_cores
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
    spin_less_on_shared_cores()
    keep_freed_memory()
    words = complete_resume(expand_overrides(list(sys.argv[1:] if arguments is None else arguments)))
    try:
        app(words, prog_name="rsf")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(report_error(error)) from None
