"""``rsf convert``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from rsfoundation.cli.console import console, say
from rsfoundation.cli.detector_0x import detector_0x
from rsfoundation.cli.merge_lora import merge_lora


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
    from rsfoundation.engine.zero_convert import convert_zero

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
