"""``rsf prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-command per kind of data."""
    group = typer.Typer(
        no_args_is_help=True, help="Make data sets ready: draw toy scenes, cut large images into patches."
    )
    group.command("toy")(toy)
    group.command("dota")(dota)
    app.add_typer(group, name="prepare")


def toy(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/toy"),
) -> None:
    """."""


def dota(
    source: Annotated[Path, typer.Argument(help="Folder with images/ and labelTxt/.")],
) -> None:
    """."""
