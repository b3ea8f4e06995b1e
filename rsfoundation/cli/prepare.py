"""``rsf prepare``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, table


class Preset(str, Enum):
    """How DOTA is customarily cut."""

    ss = "ss"
    ms = "ms"


class OnError(str, Enum):
    """What a broken image or label line does."""

    fail = "fail"
    skip = "skip"


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


def dota(
    sources: Annotated[
        list[Path], typer.Argument(help="Split folders with images/ and labelTxt/ (none for a test split).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to make: images/ and annfiles/.")],
    preset: Annotated[
        Preset, typer.Option("--preset", help="ss: 1024 px, gap 200. ms: gap 500 at rates 0.5, 1 and 1.5.")
    ] = Preset.ss,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Side of the windows in pixels; the preset's when not given."),
    ] = None,
    gap: Annotated[
        int | None,
        typer.Option("--gap", help="Overlap of neighbouring windows; the preset's when not given."),
    ] = None,
    rates: Annotated[
        list[float] | None, typer.Option("--rate", help="Scale, repeatable; the preset's when not given.")
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option("--on-error", help="skip: leave broken images and label lines out and count them."),
    ] = OnError.fail,
    workers: Annotated[int, typer.Option("--workers", help="Threads.", min=1)] = 2,
) -> None:
    """Cut large images with DOTA labels into patches for training.

    Example: rsf prepare dota data/DOTA/train data/DOTA/val -o data/split_ms_dota/trainval --preset ms
    """
    from dataclasses import asdict, replace

    from rsfoundation.data.prepare.dota import cut_dota
    from rsfoundation.detection.cuts import DOTA_CUTS

    chosen = DOTA_CUTS[preset.value]
    cut = replace(
        chosen,
        window=chosen.window if window is None else window,
        gap=chosen.gap if gap is None else gap,
        rates=tuple(rates) if rates else chosen.rates,
    )
    report = cut_dota(sources, out, cut=cut, on_error=on_error.value, workers=workers)
    rows = [(key.replace("_", " "), value) for key, value in asdict(report).items() if isinstance(value, int)]
    table("patches", ("what", "count"), rows)
    say(f"folder: {report.out}")
