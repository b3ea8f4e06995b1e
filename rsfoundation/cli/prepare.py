"""``rsf prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, table


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-command per kind of data."""
    group = typer.Typer(
        no_args_is_help=True, help="Make data sets ready: draw toy scenes, cut large images into patches."
    )
    group.command("toy")(toy)
    app.add_typer(group, name="prepare")


def toy(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("data/toy"),
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Only this task, repeatable; all when not given.")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of the scenes in pixels.", min=64)] = 256,
    train: Annotated[int, typer.Option("--train", help="Training scenes.", min=0)] = 160,
    val: Annotated[int, typer.Option("--val", help="Validation scenes.", min=0)] = 40,
    test: Annotated[int, typer.Option("--test", help="Test scenes.", min=0)] = 8,
    large: Annotated[
        int, typer.Option("--large", help="Large scenes, for prediction by windows.", min=0)
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other scenes.", min=0)] = 0,
) -> None:
    """Draw aerial scenes with labels for all four tasks, in the layouts of the real data sets.

    Example: rsf prepare toy data/toy --size 512 --train 400
    """
    from rsfoundation.data.toy import TASKS, make_toy_scenes

    counts = {"train": train, "val": val, "test": test}
    report = make_toy_scenes(
        out, size=size, counts=counts, large=large, seed=seed, tasks=tuple(task or TASKS)
    )
    rows = [
        (name, "already there" if name in report.reused else "drawn", folder)
        for name, folder in report.folders.items()
    ]
    table("toy scenes", ("task", "", "folder"), rows)
    say(", ".join(f"{count} {split}" for split, count in report.scenes.items()))
