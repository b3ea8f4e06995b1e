"""``rsf info``."""

from __future__ import annotations

from typing import Annotated

import typer

from rsfoundation.cli.console import console, say, table
from rsfoundation.cli.options import ConfigArgument, Overrides


def register(app: typer.Typer) -> None:
    """Add the verb with its topics."""
    group = typer.Typer(
        no_args_is_help=True, help="Show what there is: configs, models, one config, one model."
    )
    group.command("configs")(configs)
    group.command("models")(models)
    group.command("config")(config)
    group.command("model")(model)
    app.add_typer(group, name="info")


def configs(text: Annotated[str, typer.Argument(help="Only names that contain this.")] = "") -> None:
    """List the shipped configs with the first line of their header."""
    from rsfoundation.engine.config import list_configs
    from rsfoundation.engine.inspect import config_headline

    rows = [(name, config_headline(file)) for name, file in list_configs().items() if text in name]
    table("configs", ("name", "what it is"), rows)


def models() -> None:
    """List the registered backbones and tasks."""
    from rsfoundation.engine.inspect import backbone_names, task_names

    table("backbones (type='rsfoundation.NAME')", ("name", "what it is"), backbone_names().items())
    table("tasks", ("name", "what it is"), task_names().items())


def config(config: ConfigArgument, cfg_options: Overrides = None) -> None:
    """Print a config as it is after its bases and overrides."""
    from rsfoundation.engine.config import load_config

    console.print(load_config(config, cfg_options or ()).pretty_text, markup=False, soft_wrap=True)


def model(config: ConfigArgument, cfg_options: Overrides = None) -> None:
    """Build the model of a config and count its parameters part by part."""
    from rsfoundation.engine.config import load_config
    from rsfoundation.engine.inspect import count_parameters

    counts = count_parameters(load_config(config, cfg_options or ()))
    rows = [(name, f"{total:,}", f"{trainable:,}") for name, (total, trainable) in counts.items()]
    table("parameters", ("part", "all", "trainable"), rows)
    say("parts are the direct children of the model")
