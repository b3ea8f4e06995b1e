"""``rsf doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from rsfoundation.cli.console import console, say, table

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check this environment and say which command mends what.

    Exit status 1 when something that programs need is broken.
    """
    from dataclasses import asdict

    from rsfoundation.engine.doctor import examine

    checks = examine()
    broken = [check for check in checks if check.status == "error"]
    if as_json:
        console.print_json(data=[asdict(check) for check in checks])
    else:
        table("environment", ("check", "", "found"), [(c.name, _MARKS[c.status], c.found) for c in checks])
        fixes = [(check.name, _MARKS[check.status], check.fix) for check in checks if check.fix]
        if fixes:
            table("what to do", ("check", "", "command"), fixes)
        say(
            f"{len(broken)} of {len(checks)} checks failed"
            if broken
            else "everything that programs need is in place"
        )
    raise typer.Exit(1 if broken else 0)
