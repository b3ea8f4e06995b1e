"""Options that several verbs share, written once so that they read alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from rsfoundation.cli.console import say
from rsfoundation.core.choices import Launcher, Tracker

SizeOption = Annotated[
    str, typer.Option("--size", help="Image size in pixels: one side, or HEIGHTxWIDTH.", metavar="PIXELS")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the numbers to this file too.", metavar="FILE")
]
NetworkArgument = Annotated[
    str,
    typer.Argument(
        help="A config (file or shipped name) or a backbone (`rsf info models` lists both kinds of name).",
        metavar="CONFIG-OR-BACKBONE",
    ),
]
ConfigArgument = Annotated[
    str,
    typer.Argument(
        help="Config file, or the name of a shipped one (`rsf info configs` lists them).", metavar="CONFIG"
    ),
]
CFG_OPTIONS = "--cfg-options"
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        CFG_OPTIONS,
        help="Change config values: KEY.SUB=VALUE ..., for example train_dataloader.batch_size=4.",
        metavar="KEY=VALUE...",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        help="Bands that the model sees, by number or name, red first: 4,3,2; the config's when not given.",
        metavar="BANDS",
    ),
]
PixelRangeOption = Annotated[
    str | None,
    typer.Option(
        "--pixel-range",
        help="Values that become 0 and 255, of every image: 0,2047; the config's when not given.",
        metavar="LOW,HIGH",
    ),
]
WorkDir = Annotated[
    Path | None,
    typer.Option("--work-dir", help="Run folder; work_dirs/CONFIG-NAME when not given.", metavar="FOLDER"),
]
Device = Annotated[str, typer.Option("--device", help="auto (CUDA where there is any), cpu, cuda or cuda:N.")]
Amp = Annotated[bool, typer.Option("--amp", help="Mixed precision: float16 on CUDA, bfloat16 on CPU.")]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,  # numpy's largest seed
        help="Seed of every random generator; the config's, or 0, when not given.",
    ),
]
LauncherOption = Annotated[
    Launcher,
    typer.Option("--launcher", help="Program that started the ranks of a distributed run (CPU: gloo)."),
]
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How training is distributed: ddp, fsdp, deepspeed-zero1, -zero2, -zero3 or -zero3-offload.",
        metavar="NAME",
    ),
]
TrustCheckpoint = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Read checkpoints that hold more than weights: they can run any program. For your own files.",
    ),
]
Track = Annotated[
    list[str] | None,  # typer takes no list of a Literal; the library checks the names
    typer.Option(
        "--track",
        help=f"Log the run to {' or '.join(get_args(Tracker))} too; repeat it for both.",
        metavar="|".join(get_args(Tracker)),
    ),
]
# torchrun of older torch releases passes it; the environment variable has the same value.
LocalRank = Annotated[int, typer.Option("--local-rank", "--local_rank", hidden=True)]


def read_size(text: str) -> tuple[int, int]:
    """Read ``512`` or ``512x768`` as (height, width).

    Raises:
        ConfigError: It is neither, or a side is below 32 pixels.
    """
    from rsfoundation.core.errors import ConfigError

    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) >= 32 for side in sides):
        raise ConfigError(
            f"the image size '{text}' is neither one side nor HEIGHTxWIDTH, each at least 32 pixels",
            where="--size",
            fix="--size 512, or --size 512x768",
        )
    return int(sides[0]), int(sides[-1])


def write_json(file: Path | None, content: dict[str, Any]) -> None:
    """Write numbers to the file of ``--json`` and name it.

    Args:
        file: The file; ``None`` writes nothing.
        content: Plain values.
    """
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n")
        say(f"written to {file}")
