"""``rsf train``."""

from __future__ import annotations

from typing import Annotated

import typer

from rsfoundation.cli.console import metrics_table, say
from rsfoundation.cli.options import (
    Amp,
    Bands,
    ConfigArgument,
    Device,
    LauncherOption,
    LocalRank,
    Overrides,
    PixelRangeOption,
    Seed,
    Strategy,
    Track,
    TrustCheckpoint,
    WorkDir,
)

Resume = Annotated[
    str | None,
    typer.Option(
        "--resume",
        help="Continue from the newest checkpoint of the run folder (auto), or from a .pth file.",
    ),
]

Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Run backbone and neck through torch.compile; the log says how long that took."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("train")(train)


def train(
    config: ConfigArgument,
    work_dir: WorkDir = None,
    resume: Resume = None,
    amp: Amp = False,
    compiled: Compile = False,
    device: Device = "auto",
    seed: Seed = None,
    launcher: LauncherOption = "none",
    strategy: Strategy = None,
    track: Track = None,
    bands: Bands = None,
    pixel_range: PixelRangeOption = None,
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
    local_rank: LocalRank = 0,
) -> None:
    """Train a model of any task from a config.

    The run folder receives checkpoints, the resolved config.py, environment.json, metrics.json,
    curves.png and pictures of truth and prediction.

    Example: rsf train quickstart/detection_toy_lsknet_t --device cpu
    """
    from rsfoundation.engine.resolve_config import RunOptions
    from rsfoundation.engine.train import train as run

    options = RunOptions(
        work_dir=work_dir,
        resume=resume,
        amp=amp,
        compiled=compiled,
        device=device,
        seed=seed,
        launcher=launcher,
        overrides=tuple(cfg_options or ()),
        bands=bands,
        pixel_range=pixel_range,
        strategy=strategy,
        track=tuple(track or ()),
        trust_checkpoint=trust_checkpoint,
    )
    result = run(config, options)
    if result.metrics:
        metrics_table("last validation", result.metrics)
    checkpoint = result.best_checkpoint or result.last_checkpoint
    say(f"trained in {result.seconds:.0f} s; best checkpoint: {checkpoint}")
    say(f"run folder: {result.work_dir} (curves.png, metrics.json, pictures/)")
