"""Reading image sizes as users write them, and writing figures to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rsfoundation.cli.console import say

SizeOption = Annotated[
    str, typer.Option("--size", help="Image size in pixels: one side, or HEIGHTxWIDTH.", metavar="PIXELS")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the figures to this file too.", metavar="FILE")
]
NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="A config (file or shipped name) or a backbone (`rsf info models` lists both kinds of name).",
        metavar="CONFIG-OR-BACKBONE",
    ),
]


def read_size(text: str) -> tuple[int, int]:
    """Read ``512`` or ``512x768`` as (height, width).

    Raises:
        ConfigError: It is neither, or a side is below 32 pixels.
    """
    from rsfoundation.errors import ConfigError

    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) >= 32 for side in sides):
        raise ConfigError(
            f"the image size '{text}' is neither one side nor HEIGHTxWIDTH, each at least 32 pixels",
            where="--size",
            cure="--size 512, or --size 512x768",
        )
    return int(sides[0]), int(sides[-1])


def write_json(file: Path | None, content: dict[str, Any]) -> None:
    """Write figures where asked to, and say so."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n")
        say(f"written to {file}")
