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
    """Check this environment and name the command that repairs each problem.

    Exit status 1 when a required part is broken.
    """
    from dataclasses import asdict

    from rsfoundation.engine.environment import examine

    checks = examine()
    broken = [check for check in checks if check.status == "error"]
    if as_json:
        console.print_json(data=[asdict(check) for check in checks])
    else:
        table("environment", ("check", "", "found"), [(c.name, _MARKS[c.status], c.found) for c in checks])
        fixes = [(check.name, _MARKS[check.status], check.fix) for check in checks if check.fix]
        if fixes:
            table("fixes", ("check", "", "command"), fixes)
        say(f"{len(broken)} of {len(checks)} checks failed" if broken else "all required checks passed")
    raise typer.Exit(1 if broken else 0)
