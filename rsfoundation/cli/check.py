"""``rsf check``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from rsfoundation.cli.console import say
from rsfoundation.cli.options import JsonFile, Overrides

if TYPE_CHECKING:
    from rsfoundation.core.reports import Example
    from rsfoundation.prepare.check.run import DataCheck


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check")(check)


def check(
    source: Annotated[
        str,
        typer.Argument(help="A config (file or shipped name), or a data folder.", metavar="CONFIG|FOLDER"),
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a report with pictures to this file.")
    ] = None,
    json_file: JsonFile = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 at warnings, too.")] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads; one per core.", min=1)] = None,
    cfg_options: Overrides = None,
) -> None:
    """Look for broken files, wrong labels, duplicates and leakage between splits before training.

    Exit status: 0 where there is no error, 1 where there are errors, 2 where nothing could be checked.

    Example: rsf check data/dota --html check.html
    """
    from rsfoundation.prepare.check.run import check_data

    result = check_data(source, cfg_options or (), workers=workers)
    _show(result)
    if json_file is not None:
        result.write(json_file)
        say(f"written to {json_file}")
    if html is not None:
        from rsfoundation.prepare.check.html import write_html

        write_html(result, html)
        say(f"written to {html}")
    if result.errors or (strict and result.warnings):
        raise typer.Exit(1)


def _show(result: DataCheck) -> None:
    for severity in ("error", "warning"):
        for name, report in result.reports.items():
            for kind, count in report.counts.items():
                if (severity == "error") == bool(report.errors[kind]):
                    _say_problem(severity, f"{name}: {count} {kind}", report.examples.get(kind, ()))
            if severity == "warning":
                for warning in report.warnings:
                    _say_problem(severity, f"{name}: {warning}", ())
    say(result.describe())


def _say_problem(severity: str, text: str, examples: Sequence[Example]) -> None:
    colour = "red" if severity == "error" else "yellow"
    say(f"[bold {colour}]{severity}:[/bold {colour}] {escape(text)}")
    for example in examples[:2]:
        say(escape(f"  {example.where}: {example.what}"))
    if examples and examples[0].fix:
        say(escape(f"  fix: {examples[0].fix}"))
