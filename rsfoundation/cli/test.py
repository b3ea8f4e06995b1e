"""``rsf test``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import metrics_table, say
from rsfoundation.cli.options import (
    Amp,
    ConfigArgument,
    Device,
    Launcher,
    LauncherName,
    LocalRank,
    Overrides,
    Seed,
    TrustCheckpoint,
    WorkDir,
)

Checkpoint = Annotated[
    Path | None,
    typer.Argument(help="Checkpoint file or run folder; the best one in the work dir when not given."),
]
Pictures = Annotated[
    int, typer.Option("--pictures", help="How many pictures of truth and prediction to draw.", min=0)
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("test")(test)


def test(
    config: ConfigArgument,
    checkpoint: Checkpoint = None,
    work_dir: WorkDir = None,
    pictures: Pictures = 8,
    amp: Amp = False,
    device: Device = "auto",
    seed: Seed = None,
    launcher: Launcher = LauncherName.none,
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
    local_rank: LocalRank = 0,
) -> None:
    """Test a checkpoint on the config's test set.

    Writes test.json and pictures/test into the run folder.

    Example: rsf test quickstart/detection_toy_lsknet_t
    """
    from rsfoundation.checkpoints import trusting
    from rsfoundation.engine.options import RunOptions
    from rsfoundation.engine.test import test as run

    options = RunOptions(work_dir, None, amp, device, seed, launcher.value, tuple(cfg_options or ()))
    with trusting(trust_checkpoint):
        result = run(config, checkpoint, options, pictures)
    metrics_table(f"{result.task}: {result.checkpoint}", result.metrics)
    if result.pictures:
        say(f"pictures: {result.pictures}")
