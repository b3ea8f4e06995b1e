"""``rsf convert``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from rsfoundation.cli.console import console, say


def detector_0x(
    source: Annotated[Path, typer.Argument(help="Checkpoint of a detector of mmrotate 0.x.")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help="Config of the same detector, by path or name.")
    ],
) -> None:
    """Make a detector of mmrotate 0.x, such as those of LSKNet's and LWGANet's authors, one of this package.

    Weights are renamed and compared with the config's model, name by name and shape by shape.

    Example: rsf convert detector-0x s2anet_0x.pth s2anet.pth -c lsknet_s_s2anet_1x_dota_ms
    """
    from rsfoundation.engine.checkpointing.detectors_0x import convert_detector

    done = convert_detector(source, config, output)
    say(f"{done.family}: {done.tensors} tensors, {done.renamed} renamed")
    if done.dropped:
        say(f"left out: {len(done.dropped)} buffers of weight averaging (the averages themselves are kept)")
    for note in done.notes:
        say(f"note: {note}")
    say(f"written: {done.output}")


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

    from rsfoundation.core.errors import ConfigError
    from rsfoundation.engine.checkpointing.find import read_saved
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.io.checkpoints import published, write_safetensors

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


class OnlyName(str, Enum):
    """Which weights to write."""

    all = "all"
    trained = "trained"
    adapters = "adapters"


class DTypeName(str, Enum):
    """Type of the weights written."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Source = Annotated[
    Path, typer.Argument(help="Checkpoint folder of DeepSpeed's, or the run folder that holds it.")
]
Output = Annotated[
    Path, typer.Argument(help="A .pth or .safetensors file, or a folder for (sharded) safetensors.")
]
Tag = Annotated[
    str | None,
    typer.Option("--tag", "-t", help="Checkpoint in the run folder; its newest if not given."),
]
OnlyOption = Annotated[
    OnlyName, typer.Option("--only", help="All weights, the trained ones with buffers, or LoRA's alone.")
]
Ema = Annotated[
    bool | None,
    typer.Option("--ema/--no-ema", help="Moving averages or raw weights; averages if there are any."),
]
DType = Annotated[DTypeName, typer.Option("--dtype", help="Type of the weights written.")]
ShardSize = Annotated[
    float, typer.Option("--max-shard-size", help="Largest safetensors shard in GB.", min=0.001)
]
Compatible = Annotated[bool, typer.Option("--safe_serialization", hidden=True)]

convert = typer.Typer(no_args_is_help=True, help="Turn checkpoints into other forms.")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.add_typer(convert, name="convert")


@convert.callback()
def _group() -> None:
    """Turn checkpoints into other forms."""


convert.command("merge-lora")(merge_lora)
convert.command("detector-0x")(detector_0x)


@convert.command("zero-to-fp32")
def zero_to_fp32(
    source: Source,
    output: Output,
    tag: Tag = None,
    only: OnlyOption = OnlyName.all,
    ema: Ema = None,
    dtype: DType = DTypeName.float32,
    max_shard_size: ShardSize = 5.0,
    _safe_serialization: Compatible = False,
) -> None:
    """Put the weights of a DeepSpeed ZeRO 1, 2 or 3 checkpoint together into one plain checkpoint.

    DeepSpeed need not be installed, and no more memory is needed than the largest tensor takes.

    Example: rsf convert zero-to-fp32 work_dirs/my_run my_model.pth -t epoch_12.pth
    """
    from rsfoundation.engine.checkpointing.zero_conversion import convert_zero

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        job = bar.add_task("", total=None)
        result = convert_zero(
            source,
            output,
            tag,
            only.value,
            ema,
            dtype.value,
            int(max_shard_size * 10**9),
            lambda done, total: bar.update(job, completed=done, total=total),
        )
    kind = "moving averages" if result.averaged else "weights"
    say(
        f"{result.tensors} tensors, {result.parameters:,} parameters: {kind} of {result.source} "
        f"(ZeRO {result.stage}, {result.world_size} ranks)"
    )
    say(f"written: {result.output}")
