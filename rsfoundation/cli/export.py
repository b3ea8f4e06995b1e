"""``rsf export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rsfoundation.cli.console import say, table
from rsfoundation.cli.options import Overrides, SizeOption, TrustCheckpoint, read_size

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rsfoundation.engine.export import Export, Normalised


_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # of ImageNet
_MIDDLE = 127.5  # of 8 bits, for other bands
_COMPARED_SIDE = 2048  # of an image to compare on: its corner is enough


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
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Fold batch norms into convolutions (equal to 1e-5).")
    ] = False,
    openvino: Annotated[
        bool, typer.Option("--openvino", help="Compare in OpenVINO on the CPU, too (ONNX files).")
    ] = False,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Image to compare on, one per date; random pixels when not given."),
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
    classifiers logits, detectors boxes, scores and labels before suppression (docs/export.md has that step in
    numpy), Mask R-CNN those after it with masks, backbones their stage maps. LoRA adapters are merged. A file
    that differs from PyTorch is not kept.

    Examples: rsf export work_dirs/segmentation_toy_lsknet_t -o land_cover.onnx

    rsf export lsknet_t --size 1024 -o backbone.onnx
    """
    from rsfoundation.engine.export import export as write
    from rsfoundation.io.checkpoints import trusting
    from rsfoundation.models.factory import list_models

    metadata: dict[str, object] = {}
    if model in list_models() and not Path(model).exists():
        module, channels = _named_backbone(model, bands)
    else:
        with trusting(trust_checkpoint):
            module, channels, metadata = _trained(model, part, config, tuple(cfg_options or ()), bands)
    done = write(
        module.eval(),
        channels,
        read_size(size),
        out,
        free_size=not fixed_size,
        deploy=deploy,
        openvino=openvino,
        pixels=_pixels(image, channels) if image else None,
        metadata=metadata,
    )
    if done.note:
        say(f"[yellow]{done.note}[/yellow]")
    if deploy:
        say(f"{done.folded} batch norms folded into convolutions")
    _show_checks(done)
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in done.output_shapes.items())
    sides = "free height and width (multiples of 32, from 64)" if done.free_size else "fixed size"
    say(f"input image {list(done.input_shape)}, {sides}; output {shapes}")
    say(f"file: {done.file} ({done.file.stat().st_size / 1e6:.1f} MB)")


def _show_checks(done: Export) -> None:
    rows: list[tuple[str, ...]] = []
    for check in done.checks:
        size, one = f"{check.size[0]} x {check.size[1]}, {check.runtime}", check.agreement
        if one is not None:
            masks = (f"{100 * one.mask_pixels:.3f} %",) if "masks" in done.output_shapes else ()
            numbers = str(one.detections), f"{100 * one.matched:.1f} %", f"{one.box_difference:.1e}"
            rows.append((size, *numbers, f"{one.score_difference:.1e}", *masks))
        else:
            equal = "" if check.equal_pixels is None else f"{100 * check.equal_pixels:.3f} %"
            rows.append((size, f"{check.difference:.1e}", equal))
    columns: tuple[str, ...] = ("pixels, run by", "largest difference, relative", "equal classes")
    if done.checks[0].agreement is not None:
        columns = ("pixels, run by", "detections", "matched", "corners, px", "scores")
        columns += ("mask pixels",) if "masks" in done.output_shapes else ()
        if not all(check.agreement and check.agreement.detections for check in done.checks):
            say("[yellow]an image without detections was compared: give one with some by --image[/yellow]")
    table("compared with PyTorch", columns, rows)


def _pixels(files: list[Path], channels: int) -> Tensor:
    """Return images as the file takes them, ``(1, C, h, w)``.

    Raises:
        ConfigError: Their bands together are not the channels of the model.
    """
    import torch

    from rsfoundation.core.errors import ConfigError
    from rsfoundation.core.task import Window
    from rsfoundation.io.rasters import RasterReader

    dates = []
    for file in files:
        with RasterReader(file) as reader:
            window = Window(0, 0, min(reader.width, _COMPARED_SIDE), min(reader.height, _COMPARED_SIDE))
            dates.append(torch.from_numpy(reader.read(window)).permute(2, 0, 1)[None].float())
    total = sum(date.shape[1] for date in dates)
    if total != channels or any(date.shape != dates[0].shape for date in dates):
        raise ConfigError(
            f"the model takes {channels} channels, the images have {total}, of sizes "
            f"{', '.join(str(tuple(date.shape[2:])) for date in dates)}",
            where="--image",
            fix="give one image for each date, all of one size",
        )
    return torch.cat(dates, 1)


def _named_backbone(name: str, bands: int | None) -> tuple[Normalised, int]:
    """Return a backbone with random weights, for programs that time or load it.

    Its pixels are normalised, too: unnormalised ones let rounding grow to a hundredth of the maps.
    """
    from mmengine.model import ImgDataPreprocessor

    from rsfoundation.engine.export import Normalised, StageMaps
    from rsfoundation.models.factory import create_model

    backbone = create_model(name, in_channels=bands) if bands else create_model(name)
    mean, std = (_MEAN, _STD) if bands in (None, 3) else ([_MIDDLE], [_MIDDLE])
    preprocessor = ImgDataPreprocessor(mean=mean, std=std, bgr_to_rgb=True)
    return Normalised(StageMaps(backbone), preprocessor), bands or 3


def _trained(
    model: str, part: str, config: str | None, overrides: tuple[str, ...], bands: int | None
) -> tuple[Normalised, int, dict[str, object]]:
    """Return the exportable module of a checkpoint, its input channels and what the file says of it.

    Raises:
        RSFError: The checkpoint or config is wrong, or models of this kind are not exported whole.
    """
    from rsfoundation.core.errors import ConfigError
    from rsfoundation.core.task import PredictsScenes
    from rsfoundation.engine.checkpointing.export_backbone import trained_backbone
    from rsfoundation.engine.checkpointing.find import config_of_checkpoint
    from rsfoundation.engine.config import build_task
    from rsfoundation.engine.export import ClassLogits, MapLogits, Normalised, StageMaps
    from rsfoundation.engine.export_detector import RawDetections, is_detector
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.models.classifiers import SceneClassifier
    from rsfoundation.registry import MODELS

    cfg = config_of_checkpoint(model, config, overrides)
    task = build_task(cfg)
    if not isinstance(task, PredictsScenes):  # distillation, pretraining
        if part != "backbone":
            raise ConfigError(
                f"models of the task {task.name!r} predict nothing and are not exported whole",
                where=model,
                fix="export the backbone alone: --part backbone",
            )
        trained = trained_backbone(model, cfg)
        described = trained.cfg.model.get("data_preprocessor")
        normalisation = MODELS.build(described) if described else None
        channels = bands or _bands_of(normalisation, 1)
        return Normalised(StageMaps(trained.network), normalisation), channels, {}
    ready = WindowModel(model, cfg, "cpu")
    network, dates = ready.network, 1
    preprocessor = getattr(network, "data_preprocessor", None)
    metadata: dict[str, object] = {"classes": list(ready.classes.names), "task": ready.task.name}
    if declared := ready.cfg.get("image_loading"):  # the file takes pixels after this step
        metadata["image_loading"] = declared.to_dict()
    inner: nn.Module
    if part == "backbone":
        inner, metadata = StageMaps(network.backbone), {}  # type: ignore[arg-type]
    elif hasattr(network, "encode_decode"):
        inner = MapLogits(network)
        dates = ready.task.images_per_scene if isinstance(ready.task, PredictsScenes) else 1
    elif is_detector(network):
        inner = RawDetections(network)
        metadata |= inner.metadata()
    elif isinstance(network, SceneClassifier):
        inner = ClassLogits(network)
    else:
        raise ConfigError(
            f"models of the type {type(network).__name__} are not exported whole",
            where=model,
            fix="export the backbone alone: --part backbone",
        )
    return Normalised(inner, preprocessor, dates), dates * (bands or _bands_of(preprocessor, dates)), metadata


def _bands_of(preprocessor: nn.Module | None, dates: int) -> int:
    """Return the bands of one image: those of the preprocessor's mean, else three."""
    mean = getattr(preprocessor, "mean", None)
    count = 3 if mean is None else len(mean)
    return count if dates == 1 or count % dates else count // dates
