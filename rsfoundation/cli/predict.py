"""``rsf predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say, summary_text, table
from rsfoundation.cli.options import Device, Overrides, TrustCheckpoint


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("predict")(predict)


def predict(
    images: Annotated[
        list[Path], typer.Argument(help="Images or folders; for change detection BEFORE AFTER pairs.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Checkpoint file, or run folder (its best checkpoint).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("predictions"),
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py beside the checkpoint when not given."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Side of the windows in pixels; the config's when not given.", min=32),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Pixels windows share; the config's when not given.", min=0),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Windows per forward pass.", min=1)] = 1,
    score: Annotated[
        float, typer.Option("--score", help="Drop predictions that score less.", min=0, max=1)
    ] = 0.3,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", help="File kind to write, repeatable; all of the task when not given."
        ),
    ] = None,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw an overlay PNG.")] = True,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Detection: predict each window at several scales and flips, merged by rotated NMS. Nine "
            "passes; the config may choose, see `rsf test --help`.",
        ),
    ] = False,
    device: Device = "auto",
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
) -> None:
    """Predict images of any size: cut into windows, merged in full-image pixels.

    Example: rsf predict scene.png --model work_dirs/detection_toy_lsknet_t -o out --score 0.5
    """
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.predict import PredictOptions
    from rsfoundation.inference.predict import predict as run
    from rsfoundation.io.checkpoints import trusting

    options = PredictOptions(window, overlap, batch_size, score, tuple(formats or ()), picture)
    with trusting(trust_checkpoint):
        ready = WindowModel(model, config, device, cfg_options or (), tta)
    results = run(ready, images, out, options)
    rows = [(r.name, r.windows, summary_text(r.summary), f"{r.seconds:.1f}") for r in results]
    table("predictions", ("scene", "windows", "found", "seconds"), rows)
    say(f"files: {out}")
