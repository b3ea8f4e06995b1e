"""``rsf convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from rsfoundation.cli.console import console, say, table
from rsfoundation.core.choices import Precision, WeightSelection


def register(app: typer.Typer) -> None:
    """Add the verb with one sub-command per conversion."""
    group = typer.Typer(no_args_is_help=True, help="Convert checkpoints and configs.")
    group.command("merge-lora")(merge_lora)
    group.command("detector-0x")(detector_0x)
    group.command("zero-to-fp32")(zero_to_fp32)
    group.command("backbone")(backbone)
    group.command("config")(config)
    app.add_typer(group, name="convert")


def detector_0x(
    source: Annotated[Path, typer.Argument(help="Checkpoint of a detector of mmrotate 0.x.")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    config: Annotated[
        str, typer.Option("--config", "-c", help="Config of the same detector, by path or name.")
    ],
) -> None:
    """Convert a detector of mmrotate 0.x, such as LSKNet's, Strip R-CNN's and LWGANet's official ones.

    Weights are renamed and compared with the config's model, name by name and shape by shape.

    Example: rsf convert detector-0x s2anet_0x.pth s2anet.pth -c lsknet_s_s2anet_1x_dota_ms
    """
    from rsfoundation.engine.checkpointing.convert import convert_detector

    done = convert_detector(source, config, output)
    say(f"{done.family}: {done.tensors} tensors, {done.renamed} renamed")
    if done.dropped:
        say(f"dropped: {len(done.dropped)} buffers of weight averaging (the averages themselves are kept)")
    for note in done.notes:
        say(f"note: {note}")
    say(f"written: {done.output}")


def config(
    source: Annotated[Path, typer.Argument(help="Config of mmrotate, mmdet, mmseg (0.x or 1.x) or Open-CD.")],
    output: Annotated[Path, typer.Argument(help="The new config, a .py file in a folder of configs.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", "-d", help="A file of configs/_base_/datasets by name: dota_ss."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 1 if a key was not converted.")
    ] = False,
) -> None:
    """Rewrite a config for this package: network, weights and schedule; the data set is one of ours.

    Each key that was not understood is listed with its line.

    Example: rsf convert config oriented_rcnn_r50_fpn_1x_dota_le90.py configs/mine/orcnn.py --dataset dota_ss
    """
    from rsfoundation.engine.config_migration import convert_config

    done = convert_config(source, output, dataset)
    say(f"{done.dialect} to the task {done.task}: {len(done.renamed)} names changed")
    if done.unknown:
        table(
            "not converted", ("key", "where", "why"), [(one.key, one.where, one.why) for one in done.unknown]
        )
    if dataset is None:
        say("no data set: add a file of configs/_base_/datasets to _base_, or give --dataset")
    say(f"written: {output}")
    if strict and done.unknown:
        raise typer.Exit(1)


def merge_lora(
    source: Annotated[Path, typer.Argument(help="Checkpoint with adapters, or a run folder (its best).")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py next to the checkpoint when not given."),
    ] = None,
) -> None:
    """Add LoRA's adapters to the weights: a checkpoint of the plain model, without the lora block.

    Example: rsf convert merge-lora work_dirs/my_run merged.pth
    """
    from rsfoundation.engine.checkpointing.convert import merge_lora as run

    say(f"merged {run(source, output, config)} adapters into {output}")


def backbone(
    source: Annotated[Path, typer.Argument(help="Checkpoint of any task, or a run folder (its best).")],
    output: Annotated[Path, typer.Argument(help="A .pth or .safetensors file; its model card is NAME.md.")],
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py next to the checkpoint when not given."),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights, for the card.")] = "",
    description: Annotated[
        str, typer.Option("--description", help="What the weights are for, for the card.")
    ] = "",
) -> None:
    """Write the backbone under its published names with a model card: data, recipe, metrics, licence, hash.

    Any task starts from the file: init_cfg=dict(type='Pretrained', checkpoint='FILE') of its backbone.

    Example: rsf convert backbone work_dirs/pretraining_toy_lsknet_t lsknet_t_mine.pth --licence cc-by-4.0
    """
    from rsfoundation.engine.checkpointing.export_backbone import export_backbone

    done = export_backbone(source, output, config, licence, description)
    say(f"{done.tensors} tensors, SHA-256 {done.sha256}")
    say(f"written: {done.output}, {done.card}")


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
    WeightSelection,
    typer.Option("--only", help="All weights, the trained ones with buffers, or LoRA's alone."),
]
Ema = Annotated[
    bool | None,
    typer.Option("--ema/--no-ema", help="Moving averages or raw weights; averages if there are any."),
]
DType = Annotated[Precision, typer.Option("--dtype", help="Type of the weights written.")]
ShardSize = Annotated[
    float, typer.Option("--max-shard-size", help="Largest safetensors shard in GB.", min=0.001)
]
Compatible = Annotated[bool, typer.Option("--safe_serialization", hidden=True)]


def zero_to_fp32(
    source: Source,
    output: Output,
    tag: Tag = None,
    only: OnlyOption = "all",
    ema: Ema = None,
    dtype: DType = "float32",
    max_shard_size: ShardSize = 5.0,
    _safe_serialization: Compatible = False,
) -> None:
    """Convert a DeepSpeed ZeRO 1, 2 or 3 checkpoint to one plain checkpoint.

    DeepSpeed need not be installed, and no more memory is needed than for the largest tensor.

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
            only,
            ema,
            dtype,
            int(max_shard_size * 10**9),
            lambda done, total: bar.update(job, completed=done, total=total),
        )
    kind = "moving averages" if result.averaged else "weights"
    say(
        f"{result.tensors} tensors, {result.parameters:,} parameters: {kind} of {result.source} "
        f"(ZeRO {result.stage}, {result.world_size} ranks)"
    )
    say(f"written: {result.output}")
