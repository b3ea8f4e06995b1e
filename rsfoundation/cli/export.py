"""``rsf export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.cli.options import Overrides, SizeOption, TrustCheckpoint, read_size

if TYPE_CHECKING:
    from torch import nn

    from rsfoundation.engine.export import Normalised


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("export")(export)


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint file, run folder (its best checkpoint), or a backbone of `rsf info models`.",
            metavar="MODEL",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The file: .onnx, or .pt2 for torch.export.", metavar="FILE"),
    ] = Path("model.onnx"),
    part: Annotated[
        Literal["model", "backbone"],
        typer.Option("--part", help="The whole model, or its backbone alone (any task)."),
    ] = "model",
    size: SizeOption = "512",
    fixed_size: Annotated[
        bool, typer.Option("--fixed-size", help="Do not try to leave height and width free.")
    ] = False,
    bands: Annotated[
        int | None,
        typer.Option("--channels", help="Bands of one image; the model's own when not given.", min=1),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py next to the checkpoint when not given."),
    ] = None,
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
) -> None:
    """Write a model for programs without this package, and compare the file with PyTorch.

    The file takes raw pixel values, float32 (1, C, H, W), red first; for change detection both dates one
    after the other. Normalisation is inside. Segmentation and change give logits of the image's size,
    backbones their stage maps. LoRA adapters are merged. A file that differs from PyTorch is not kept.

    Examples: rsf export work_dirs/segmentation_toy_lsknet_t -o land_cover.onnx

    rsf export lsknet_t --size 1024 -o backbone.onnx
    """
    from rsfoundation.engine.export import export as write
    from rsfoundation.io.checkpoints import trusting
    from rsfoundation.models.factory import list_models

    if model in list_models() and not Path(model).exists():
        module, channels = _named_backbone(model, bands)
    else:
        with trusting(trust_checkpoint):
            module, channels = _trained(model, part, config, tuple(cfg_options or ()), bands)
    done = write(module.eval(), channels, read_size(size), out, free_size=not fixed_size)
    if done.note:
        say(f"[yellow]{done.note}[/yellow]")
    rows = [
        (
            f"{check.size[0]} x {check.size[1]}",
            f"{check.difference:.1e}",
            "" if check.equal_pixels is None else f"{100 * check.equal_pixels:.3f} %",
        )
        for check in done.checks
    ]
    table("compared with PyTorch", ("pixels", "largest difference, relative", "equal classes"), rows)
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in done.output_shapes.items())
    sides = "free height and width (multiples of 32, from 64)" if done.free_size else "fixed size"
    say(f"input image {list(done.input_shape)}, {sides}; output {shapes}")
    say(f"file: {done.file} ({done.file.stat().st_size / 1e6:.1f} MB)")


def _named_backbone(name: str, bands: int | None) -> tuple[Normalised, int]:
    """Return a backbone with random weights, for programs that time or load it."""
    from rsfoundation.engine.export import Normalised, StageMaps
    from rsfoundation.models.factory import create_model

    backbone = create_model(name, in_channels=bands) if bands else create_model(name)
    return Normalised(StageMaps(backbone), None), bands or 3


def _trained(
    model: str, part: str, config: str | None, overrides: tuple[str, ...], bands: int | None
) -> tuple[Normalised, int]:
    """Return the exportable module of a checkpoint, and its input channels.

    Raises:
        RSFError: The checkpoint or config is wrong, or models of this task are not exported whole.
    """
    from rsfoundation.core.errors import ConfigError
    from rsfoundation.core.task import PredictsScenes
    from rsfoundation.engine.export import MapLogits, Normalised, StageMaps
    from rsfoundation.inference.model import WindowModel

    ready = WindowModel(model, config, "cpu", overrides)
    network, dates = ready.network, 1
    preprocessor = getattr(network, "data_preprocessor", None)
    if part == "backbone":
        inner: nn.Module = StageMaps(network.backbone)  # type: ignore[arg-type]
    elif hasattr(network, "encode_decode"):
        inner = MapLogits(network)
        dates = ready.task.images_per_scene if isinstance(ready.task, PredictsScenes) else 1
    else:
        raise ConfigError(
            f"models of the task '{ready.task.name}' are not exported whole: suppression and pooling of "
            "regions have no equivalent in ONNX's standard operators",
            where=model,
            fix="export the backbone alone: --part backbone",
        )
    return Normalised(inner, preprocessor, dates), dates * (bands or _bands_of(preprocessor, dates))


def _bands_of(preprocessor: nn.Module | None, dates: int) -> int:
    """Return the bands of one image: those of the preprocessor's mean, else three."""
    mean = getattr(preprocessor, "mean", None)
    count = 3 if mean is None else len(mean)
    return count if dates == 1 or count % dates else count // dates
