"""``rsf info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfoundation.cli import submission
from rsfoundation.cli.console import console, say, table
from rsfoundation.cli.options import (
    ConfigArgument,
    JsonFile,
    NetworkArgument,
    Overrides,
    SizeOption,
    read_size,
    write_json,
)

if TYPE_CHECKING:
    from rsfoundation.engine.networks import Complexity, Part


def register(app: typer.Typer) -> None:
    """Add the verb with its topics."""
    group = typer.Typer(
        no_args_is_help=True,
        help="List configs and models; show a config, a model, or the values of a data set's bands.",
    )
    group.command("configs")(configs)
    group.command("models")(models)
    group.command("config")(config)
    group.command("model")(model)
    group.command("data")(data)
    group.command("submission", hidden=True)(submission.check)  # its name before `rsf submission check`
    app.add_typer(group, name="info")


def configs(text: Annotated[str, typer.Argument(help="Only names that contain this.")] = "") -> None:
    """List the shipped configs with the first line of their header."""
    from rsfoundation.engine.config import list_configs

    rows = [(name, _headline(file)) for name, file in list_configs().items() if text in name]
    table("configs", ("name", "description"), rows)


def models() -> None:
    """List the backbones, their shipped files, their published weights, and the tasks."""
    from rsfoundation.engine.networks import backbone_names, list_backbones
    from rsfoundation.registry import TASKS

    TASKS.import_from_location()
    tasks = [
        (name, (kind.__doc__ or "").strip().split("\n")[0])
        for name, kind in sorted(TASKS.module_dict.items())
    ]
    files = [(name, _headline(file)) for name, file in list_backbones().items()]
    table("backbones (type='rsfoundation.NAME')", ("name", "description"), backbone_names().items())
    table("backbones in configs/_base_/backbones", ("name", "description"), files)
    columns = ("name", "network", "trained on", "reported", "licence", "link", "SHA-256")
    table("weights (init_cfg=dict(type='Pretrained', checkpoint='NAME'))", columns, weight_rows())
    table("tasks", ("name", "description"), tasks)


def _headline(file: Path) -> str:
    """Return the first comment line of a config: its purpose and the result that it reproduces."""
    for line in file.read_text().splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return ""


def weight_rows() -> list[tuple[str, ...]]:
    """Return one row per published checkpoint: name, network, training, metrics, licence, link and hash."""
    from rsfoundation.models.pretrained.catalogue import WEIGHTS

    return [
        (
            weights.name,
            " ".join(str(value) for value in weights.backbone.values()),
            weights.trained_on,
            "\n".join(f"{metric}: {value}" for metric, value in weights.metrics.items()),
            weights.licence,
            "direct" if weights.url else "by hand, from the authors' page",
            f"{weights.sha256}..." if weights.sha256 else "not published",
        )
        for weights in WEIGHTS.values()
    ]


def config(config: ConfigArgument, cfg_options: Overrides = None) -> None:
    """Print a config as it is after its bases and overrides."""
    from rsfoundation.engine.config import load_config

    console.print(load_config(config, cfg_options or ()).pretty_text, markup=False, soft_wrap=True)


def data(
    source: Annotated[str, typer.Argument(help="A config, a data folder, or a folder of images.")],
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    json_file: JsonFile = None,
    cfg_options: Overrides = None,
) -> None:
    """Measure mean, standard deviation and percentiles of each band, in one pass over the pixels.

    Example: rsf info data data/dota/ss/trainval/images
    """
    from dataclasses import asdict

    from rsfoundation.prepare.band_statistics import PERCENTILES, band_statistics, model_statistics

    bands = band_statistics(source, split, cfg_options or ())
    columns = ("band", "mean", "std", "least", "largest", *(f"{percent:g} %" for percent in PERCENTILES))
    rows = [(b.name, b.mean, b.std, b.low, b.high, *b.percentiles.values()) for b in bands]
    table("bands, red first where they are colours", columns, rows)
    content: dict[str, Any] = dict(bands=[asdict(band) for band in bands])
    if not Path(source).is_dir():
        read = model_statistics(source, bands, split, cfg_options or ())
    elif bands[0].dtype == "uint8":
        read = [band.mean for band in bands], [band.std for band in bands]
    else:
        read = None
        say(
            f"values are {bands[0].dtype}, and a model sees 0 to 255: give a config "
            "image_loading=dict(pixel_range=(LOW, HIGH)), and this command that config for its mean and std"
        )
    if read is not None:
        mean, std = ([round(value, 3) for value in values] for values in read)
        say(f"data_preprocessor = dict(mean={mean}, std={std}, bgr_to_rgb={len(mean) == 3})")
        content["data_preprocessor"] = dict(mean=mean, std=std)
    write_json(json_file, content)


def model(
    name: NetworkArgument,
    size: SizeOption = "1024",
    json_file: JsonFile = None,
    cfg_options: Overrides = None,
) -> None:
    """Count a model's parameters, operations and activations part by part, without computing anything.

    Example: rsf info model lsknet_s --size 512
    """
    from rsfoundation.engine.networks import network_complexity

    counted = network_complexity(name, read_size(size), cfg_options or ())
    columns = ("part", "params", "trainable", "GMAC", "GFLOP", "Mact")
    shape = " x ".join(map(str, counted.input_shape))
    table(f"{name}, one image of {shape}", columns, map(_row, (*counted.parts, counted.total)))
    for line in _notes(counted):
        say(line)
    write_json(json_file, _as_json(name, counted))


def _row(part: Part) -> tuple[str, ...]:
    giga, mega = 1e9, 1e6
    counts = (f"{part.params:,}", f"{part.trainable:,}")
    work = (f"{part.macs / giga:.3f}", f"{part.flops / giga:.3f}", f"{part.activations / mega:.2f}")
    return part.name, *counts, *work


def _notes(counted: Complexity) -> list[str]:
    notes = [
        "GMAC: 10^9 multiply-adds of convolutions, matrix products and attention, nothing else counted. "
        "GFLOP: a multiply-add is two. Mact: 10^6 numbers in the outputs of these operations."
    ]
    names = {part.name for part in counted.parts}
    if "roi_head" in names:
        notes.append("roi_head at its limits: the most proposals and objects that the config allows.")
    if "auxiliary_head" in names:
        notes.append("auxiliary_head serves training only: it does not run at test.")
    if counted.uncounted:
        notes.append(f"Not counted, as it depends on what an image shows: {', '.join(counted.uncounted)}.")
    return notes


def _as_json(name: str, counted: Complexity) -> dict[str, object]:
    from dataclasses import asdict

    parts = [{**asdict(part), "flops": part.flops} for part in (*counted.parts, counted.total)]
    return dict(
        name=name,
        input_shape=counted.input_shape,
        flops="a multiply-add is two",
        parts=parts[:-1],
        total=parts[-1],
        uncounted=counted.uncounted,
    )
