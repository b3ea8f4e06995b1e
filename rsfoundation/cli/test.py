"""``rsf test``."""

from __future__ import annotations

from pathlib import Path
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
FormatOnly = Annotated[
    bool,
    typer.Option(
        "--format-only",
        help="Compute no metrics; write the archives for a server, checked against its rules. Detection: "
        "DOTA or FAIR1M, patches merged. Segmentation: LoveDA or UAVid. For test sets without labels.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="With --format-only: folder of the archives; submission/ in the run folder."
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="With --format-only: folder of the full test images. Then each of them must have been tested; "
        "FAIR1M needs it for image sizes, where patches were tested.",
    ),
]
Probe = Annotated[
    bool,
    typer.Option(
        "--probe",
        help="Recognition: freeze the backbone of any checkpoint and measure its features on the config's "
        "data, by k nearest neighbours and a linear classifier.",
    ),
]
Tta = Annotated[
    bool,
    typer.Option(
        "--tta",
        help="Detection: test each image at several scales and flips, merged by rotated NMS. Nine passes; "
        "the config may choose: tta = dict(scales=(0.5, 1.0, 1.5), flips=(None, 'horizontal', 'vertical')).",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("test")(test)


def test(
    config: ConfigArgument,
    checkpoint: Checkpoint = None,
    work_dir: WorkDir = None,
    pictures: Pictures = 8,
    format_only: FormatOnly = False,
    out: Out = None,
    images: Images = None,
    tta: Tta = False,
    probe: Probe = False,
    amp: Amp = False,
    device: Device = "auto",
    seed: Seed = None,
    launcher: LauncherOption = "none",
    bands: Bands = None,
    pixel_range: PixelRangeOption = None,
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
    local_rank: LocalRank = 0,
) -> None:
    """Test a checkpoint on the config's test set.

    Writes test.json and pictures/test into the run folder; detection adds evaluation/ with precision-recall
    curves, a table of classes and a confusion matrix. Evaluation rules and metrics: docs/evaluation.md.

    Example: rsf test quickstart/detection_toy_lsknet_t

    DOTA's own rules: rsf test CONFIG --cfg-options test_evaluator.matching=devkit

    Frozen features: rsf test quickstart/recognition_toy_lsknet_t work_dirs/pretraining_toy_lsknet_t --probe

    For the server: rsf test CONFIG --format-only --images data/DOTA/test/images
    """
    from rsfoundation.core.task import RunRequest
    from rsfoundation.engine.evaluate import test as run
    from rsfoundation.engine.resolve_config import RunOptions

    options = RunOptions(
        work_dir=work_dir,
        amp=amp,
        device=device,
        seed=seed,
        launcher=launcher,
        overrides=tuple(cfg_options or ()),
        bands=bands,
        pixel_range=pixel_range,
        trust_checkpoint=trust_checkpoint,
    )
    if probe:
        from rsfoundation.engine.probe import probe as run_probe

        found = run_probe(config, checkpoint, options)
        metrics_table(f"frozen features: {found.checkpoint}", found.metrics)
        return
    result = run(config, checkpoint, options, pictures, RunRequest("test", format_only, out, images, tta))
    metrics_table(f"{result.task}: {result.checkpoint}", result.metrics or result.details)
    for file in result.reports:
        say(f"written: {file}")
    if result.pictures:
        say(f"pictures: {result.pictures}")
