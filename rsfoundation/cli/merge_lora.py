"""``rsf convert merge-lora``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rsfoundation.cli.console import say


def merge_lora(
    source: Annotated[Path, typer.Argument(help="Checkpoint with adapters, or a run folder (its best).")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py beside the checkpoint when not given."),
    ] = None,
) -> None:
    """Add LoRA's adapters to the weights: a checkpoint of the plain model, without the lora block.

    Example: rsf convert merge-lora work_dirs/my_run merged.pth
    """
    import torch

    from rsfoundation.checkpoints import write_safetensors
    from rsfoundation.checkpoints.publishing import published
    from rsfoundation.engine.checkpoint import read_saved
    from rsfoundation.errors import ConfigError
    from rsfoundation.inference.model import WindowModel

    if output.suffix not in (".pth", ".safetensors"):
        raise ConfigError(f"{output} is neither a .pth nor a .safetensors file")
    model = WindowModel(source, config, "cpu")
    if not model.merged:
        raise ConfigError("the config has no lora block: there is nothing to merge", where=model.cfg.filename)
    kept = read_saved(model.checkpoint).get("meta", {})
    meta = {key: kept[key] for key in ("dataset_meta", "epoch", "iter") if key in kept}
    state = model.network.state_dict()
    if output.suffix == ".safetensors":
        write_safetensors(state, output, meta)
    else:
        with published(output) as aside:
            torch.save({"meta": meta, "state_dict": state}, aside)
    say(f"merged {model.merged} adapters into {output}")
