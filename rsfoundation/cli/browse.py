"""``rsf browse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.cli.options import Device, Overrides, TrustCheckpoint
from rsfoundation.core.choices import BrowseStage, Split
from rsfoundation.core.errors import ConfigError

_SHOWN = 10  # rows of the table of errors


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("browse")(browse)


def browse(
    source: Annotated[
        str,
        typer.Argument(
            help="A config (file, or the name of a shipped one), or a data folder.", metavar="CONFIG|FOLDER"
        ),
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="With --predictions: a checkpoint or run folder; the config's own run folder."),
    ] = None,
    split: Annotated[Split | None, typer.Option("--split", help="Which data set; train.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many samples.", min=1)] = 16,
    start: Annotated[int, typer.Option("--start", help="Index of the first sample.", min=0)] = 0,
    stage: Annotated[
        BrowseStage,
        typer.Option(
            "--stage", help="after: as the model receives it, augmented. before: as in the files. both."
        ),
    ] = "after",
    sheet: Annotated[bool, typer.Option("--sheet", help="One contact sheet instead of a folder.")] = False,
    predictions: Annotated[
        bool,
        typer.Option(
            "--predictions", help="Test the model, and draw what it gets wrong most, the worst first."
        ),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("browse"),
    device: Device = "auto",
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
) -> None:
    """Draw samples with their labels, or a model's worst predictions.

    Example: rsf browse quickstart/detection_toy_lsknet_t -n 8 --stage both -o browse

    A folder: rsf browse data/dota --split val --sheet

    Predictions: rsf browse quickstart/detection_toy_lsknet_t --predictions
    """
    if predictions:
        if split not in (None, "test"):
            raise ConfigError(
                "predictions are those of the test set", where="--split",
                fix="leave it out, and set test_dataloader.dataset with --cfg-options",
            )  # fmt: skip
        from rsfoundation.engine.evaluate import draw_worst
        from rsfoundation.engine.resolve_config import RunOptions

        options = RunOptions(
            device=device, overrides=tuple(cfg_options or ()), trust_checkpoint=trust_checkpoint
        )
        errors = draw_worst(source, checkpoint, out, options, count)
        table("worst predictions", ("error", "image"), [(f"{e:.3f}", name) for e, name in errors[:_SHOWN]])
        say(f"{min(count, len(errors))} of {len(errors)} samples drawn, the worst first: {out}")
        return
    if checkpoint is not None:
        raise ConfigError("a checkpoint predicts nothing here", where="CHECKPOINT", fix="add --predictions")
    from rsfoundation.engine.config import load_config
    from rsfoundation.prepare.browse import draw_samples

    given = source if Path(source).is_dir() else load_config(source, cfg_options or ())
    files = draw_samples(
        given, out, split=split or "train", count=count, start=start, stage=stage, sheet=sheet
    )
    say(f"{len(files)} picture{'s' * (len(files) > 1)}: {out}")
