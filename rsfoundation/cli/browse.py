"""``rsf browse``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say
from rsfoundation.cli.options import ConfigArgument, Overrides


class Split(str, Enum):
    """Which data set of the config."""

    train = "train"
    val = "val"
    test = "test"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("browse")(browse)


def browse(
    config: ConfigArgument,
    split: Annotated[Split, typer.Option("--split", help="Which data set.")] = Split.train,
    count: Annotated[int, typer.Option("--count", "-n", help="How many samples.", min=1)] = 16,
    start: Annotated[int, typer.Option("--start", help="Index of the first sample.", min=0)] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("browse"),
    cfg_options: Overrides = None,
) -> None:
    """Draw samples as the model receives them: after augmentation, labels over them.

    Example: rsf browse quickstart/detection_toy_lsknet_t -n 8 -o browse
    """
    from rsfoundation.engine.browse import browse as run
    from rsfoundation.engine.config import load_config

    files = run(load_config(config, cfg_options or ()), split.value, count, out, start)
    say(f"{len(files)} pictures: {out}")
