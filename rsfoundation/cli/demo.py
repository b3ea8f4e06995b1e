"""``rsf demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import metrics_table, say, summary_text, table
from rsfoundation.cli.options import Device, Overrides, Seed


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo")(demo)


def demo(
    task: Annotated[
        str, typer.Argument(help="A task with a quickstart config: `rsf info configs quickstart`.")
    ] = "detection",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the run and its pictures.")] = Path(
        "work_dirs/demo"
    ),
    device: Device = "auto",
    seed: Seed = None,
    cfg_options: Overrides = None,
) -> None:
    """From nothing to a trained model: draw toy scenes, train, test, predict a large scene."""
    from rsfoundation.engine.config import load_config, quickstart_config
    from rsfoundation.engine.evaluate import test
    from rsfoundation.engine.resolve_config import RunOptions
    from rsfoundation.engine.train import train
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.predict import predict
    from rsfoundation.prepare.toy.make import make_toy_scenes

    started = time.monotonic()
    cfg = load_config(quickstart_config(task), cfg_options or ())
    say(f"[bold]1/4[/bold] drawing toy scenes: {cfg.demo.data}")
    make_toy_scenes(Path(cfg.demo.data), tasks=(task,))
    say(f"[bold]2/4[/bold] training {Path(cfg.filename).stem} from random weights")
    options = RunOptions(work_dir=out / task, device=device, seed=seed)
    trained = train(cfg, options)
    say("[bold]3/4[/bold] testing on held-out scenes")
    tested = test(load_config(cfg.filename, cfg_options or ()), out / task, options)
    say("[bold]4/4[/bold] predicting a scene larger than the window")
    scenes = [Path(path) for path in cfg.demo.inputs]
    predicted = predict(WindowModel(out / task, device=device), scenes, out / task / "predictions")
    metrics_table(f"{task} on held-out scenes", tested.metrics)
    table(
        "scene",
        ("name", "windows", "found"),
        [(p.name, p.windows, summary_text(p.summary)) for p in predicted],
    )
    say(f"trained in {trained.seconds:.0f} s, all in {time.monotonic() - started:.0f} s. Look at:")
    say(f"  truth and prediction  {tested.pictures}")
    say(f"  the large scene       {predicted[0].files[-1]}")
    say(f"  training curves       {out / task / 'curves.png'}")
