"""``rsf predict``."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rsfoundation.cli.console import is_first_rank, report_error, say, summary_text, table
from rsfoundation.cli.options import Device, LauncherOption, Overrides, TrustCheckpoint

if TYPE_CHECKING:
    from rsfoundation.inference.model import WindowModel
    from rsfoundation.inference.plan import ScenePlan
    from rsfoundation.inference.predict import PredictOptions, ScenePrediction
    from rsfoundation.inference.prompts import PromptModel
    from rsfoundation.io.loading import ImageLoading


# mmengine, mmdet and numba import these wherever they are installed, within `except ImportError`, for
# optimisers of other packages, text encoders, sharded training and test coverage. They take as long as torch
# itself, and no prediction of ours uses them.
_UNUSED = (
    *("transformers", "peft", "deepspeed", "accelerate", "bitsandbytes", "coverage"),
    *("torch.distributed.optim", "mmengine._strategy.fsdp"),
)
# These are imported without a guard, for what predictions rarely use: transforms of lane lines and their
# curves, matching of boxes in training, corrupted images, pictures of matplotlib, sharded training, texts,
# and torch's compiler, of which torchvision asks one question. Names of them are imported when used.
_DEFERRED = (
    *("imgaug", "imgaug.augmenters", "imgaug.augmentables"),
    *(f"imgaug.augmentables.{name}" for name in ("lines", "segmaps")),
    *(f"scipy.{name}" for name in ("interpolate", "ndimage", "optimize")),
    *(f"matplotlib.{name}" for name in ("colors", "patches", "pyplot")),
    *("imagecorruptions", "mmseg.utils.tokenizer", "mmengine.model.wrappers.fully_sharded_distributed"),
    *("torch._dynamo", "torch._dynamo.utils"),
)
_FRAMEWORKS = (
    *("mmengine.runner", "mmdet.datasets", "mmdet.models", "mmseg.models", "mmrotate.models"),
    *("mmrotate.evaluation", "mmrotate.visualization", "rsfoundation.inference.predict"),
)
_TEXT_MODELS = "language_model"  # the key of mmdet's models that need transformers


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("predict")(predict)


class _DeferredName:
    """A name of a module that is imported when the name is used."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def _resolve(self) -> Any:
        for name in _parents(self._module):
            if isinstance(sys.modules.get(name), _DeferredModule):  # used while imports are deferred
                del sys.modules[name]
        return getattr(import_module(self._module), self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolve(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._resolve()(*args, **kwargs)


class _DeferredModule(ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package

    def __getattr__(self, name: str) -> _DeferredName:
        if name.startswith("__"):
            raise AttributeError(name)
        return _DeferredName(self.__name__, name)


def _parents(name: str) -> list[str]:
    """Return the name of a module and of the packages it is in."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


@contextmanager
def without_unused_imports() -> Iterator[None]:
    """Keep packages that prediction does not need from being imported meanwhile; afterwards they can be.

    Modules that are imported already stay as they are.
    """
    absent: dict[str, ModuleType | None] = {name: None for name in _UNUSED if name not in sys.modules}
    absent |= {name: _DeferredModule(name) for name in _DEFERRED if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # None makes an import raise ImportError
    try:
        yield
    finally:
        for name, module in absent.items():
            if sys.modules.get(name, module) is module:
                sys.modules.pop(name, None)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Let the garbage collector rest while modules are imported: thousands of objects, and no garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _import_frameworks(models: Sequence[str], config: str | None) -> None:
    """Import mmengine and mmdet, in less time where the configs have no model of text."""
    places = [Path(model) if Path(model).is_dir() else Path(model).parent for model in models]
    configs = [place / "config.py" for place in places] + ([Path(config)] if config else [])
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in configs if file.is_file()]
    if any(_TEXT_MODELS in text for text in texts):
        return
    try:
        with without_unused_imports():
            for name in _FRAMEWORKS:
                import_module(name)
            registry = import_module("rsfoundation.registry")
            for parts in (registry.MODELS, registry.TASKS):
                parts.import_from_location()
    except ImportError as error:  # another version of a package needs more of these: they are imported later
        logging.getLogger(__name__).debug("imports are not deferred: %s", error)


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, patterns, lists (.txt), addresses that GDAL opens; for change detection "
            "BEFORE AFTER pairs."
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="Checkpoint file, or run folder (its best checkpoint). Repeat it for several heads on one "
            "backbone: it sees every window once.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for the results, or one file for one scene: map.gpkg."),
    ] = Path("predictions"),
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Config; config.py next to the checkpoint when not given."),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option("--window", help="Side of the windows in pixels; the config's when not given.", min=32),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", help="Pixels windows share; the config's when not given.", min=0),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Windows per forward pass.", min=1)] = 1,
    score: Annotated[
        float, typer.Option("--score", help="Drop predictions that score less.", min=0, max=1)
    ] = 0.3,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="File kind to write, repeatable: gpkg, geojson, parquet, fgb, shp, html; of maps also tif, "
            "probabilities, png; txt, json, coco. Not given: gpkg (and tif) for georeferenced scenes, the "
            "task's pixel files for others.",
        ),
    ] = None,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Draw an overlay PNG.")] = True,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta",
            help="Test-time augmentation: predict each window flipped, turned, at several scales and merge. "
            "The config may choose the views, see `rsf test --help`.",
        ),
    ] = False,
    gsd: Annotated[
        float | None,
        typer.Option("--gsd", help="Metres per pixel at which the model sees the scene.", min=0.0001),
    ] = None,
    aoi: Annotated[
        str | None,
        typer.Option(
            "--aoi", help="Area of interest: a vector file, or xmin,ymin,xmax,ymax in the scene's CRS."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            "--bands", help="Bands by number or name, red first: 3,2,1; the config's when not given."
        ),
    ] = None,
    pixel_range: Annotated[
        str | None,
        typer.Option(
            "--pixel-range", help="LOW,HIGH: values that become 0 and 255; the config's when not given."
        ),
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option("--stretch", help="Range from each whole scene: minmax, or percentiles such as 2,98."),
    ] = None,
    class_agnostic: Annotated[
        bool | None,
        typer.Option(
            "--class-agnostic/--per-class",
            help="Suppress overlapping detections of different classes; the model's rule when not given.",
        ),
    ] = None,
    simplify: Annotated[
        float,
        typer.Option("--simplify", help="Pixels by which outlines of polygons of maps may move.", min=0),
    ] = 0.0,
    min_area: Annotated[
        float, typer.Option("--min-area", help="Leave out polygons of maps with less pixels.", min=0)
    ] = 0.0,
    workers: Annotated[int, typer.Option("--workers", help="Threads that read and compress.", min=1)] = 2,
    embeddings: Annotated[
        bool,
        typer.Option(
            "--embeddings",
            help="Write the features of the backbone instead: a line of embeddings.parquet, and a pixel of a "
            "GeoTIFF (-f parquet, -f tif), for each cell of --window pixels (256 when not given).",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, and how much memory and time it takes.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--restart", help="Continue what a killed call has left, or start anew.")
    ] = True,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", help="JSON report; report.json in the folder of the results when not given."
        ),
    ] = None,
    prompt_boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt-boxes",
            help="Segment what is in boxes, with a SAM as --model (sam_vit_base-sa1b or a file): x1,y1,x2,y2 "
            "in pixels, a .txt or .csv with one a line, or a vector file. Repeatable.",
        ),
    ] = None,
    prompt_points: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt-points",
            help="Segment what is at points: x,y in pixels; 'x,y;x,y,0' is one object with a point of the "
            "background; or a file, as above. Repeatable.",
        ),
    ] = None,
    device: Device = "auto",
    launcher: LauncherOption = "none",
    trust_checkpoint: TrustCheckpoint = False,
    cfg_options: Overrides = None,
) -> None:
    """Predict scenes of any size: windows, merged in scene pixels, written with the scene's coordinates.

    A killed call continues where it stopped. Scenes that fail do not stop the others; the exit status is then
    2, and the report names them.

    Examples: rsf predict scene.tif --model work_dirs/detection_toy_lsknet_t -o ships.gpkg

    rsf predict before.tif after.tif --model work_dirs/change_toy_lsknet_t -o out -f tif -f html

    rsf predict scene.tif --model sam_vit_base-sa1b --prompt-boxes 120,80,260,190 --prompt-points 300,410
    """
    with without_garbage_collection():
        _import_frameworks(model, config)
    from mmengine.config import Config

    from rsfoundation.engine.resolve_config import loading_of
    from rsfoundation.inference.model import WindowModel, share_backbone
    from rsfoundation.inference.predict import PredictOptions, predict_scenes
    from rsfoundation.inference.ranks import Ranks, device_of_rank
    from rsfoundation.io.checkpoints import trusting

    options = PredictOptions(
        window,
        overlap,
        batch_size,
        score,
        tuple(formats or ()),
        picture,
        gsd=gsd,
        aoi=aoi,
        stretch=stretch,
        class_agnostic=class_agnostic,
        simplify=simplify,
        min_area=min_area,
        workers=workers,
        resume=resume,
    )
    if embeddings:
        _embed(
            images, model, out, config, device, cfg_options, trust_checkpoint, options, (bands, pixel_range)
        )
        return
    if prompt_boxes or prompt_points:
        unused = {
            "--config": config,
            "--tta": tta,
            "--gsd": gsd,
            "--aoi": aoi,
            "--dry-run": dry_run,
            "--cfg-options": cfg_options,
            "--launcher": launcher != "none",
        }
        prompts = (tuple(prompt_boxes or ()), tuple(prompt_points or ()))
        with trusting(trust_checkpoint):
            loading = loading_of(Config(), bands, pixel_range)
            _predict_prompts(model, images, out, prompts, options, loading, device, unused, report)
        return
    ranks = Ranks.start(launcher)
    with trusting(trust_checkpoint):
        ready = [
            WindowModel(one, config, device_of_rank(device, launcher), cfg_options or (), tta)
            for one in model
        ]
    shared = share_backbone(ready) if len(ready) > 1 else None
    loading = loading_of(ready[0].cfg, bands, pixel_range)
    if dry_run:
        from rsfoundation.inference.plan import plan_scenes

        _show_plans(plan_scenes(ready, images, options, loading))
        return
    results = predict_scenes(ready, images, out, options, loading=loading, ranks=ranks)
    if is_first_rank():
        _show(results)
        _write_report(results, report, out, ready)
    if shared is not None:
        say(f"the shared backbone saw {shared.runs} images for {shared.asked} uses")
    say(f"files: {out}")
    failed = [scene for scene in results if scene.error is not None]
    if failed:
        raise typer.Exit(2)


def _embed(
    images: list[str],
    models: list[str],
    out: Path,
    config: str | None,
    device: str,
    cfg_options: list[str] | None,
    trust: bool,
    given: PredictOptions,
    bands_and_range: tuple[str | None, str | None],
) -> None:
    """Write embeddings and say what was done."""
    from rsfoundation.core.errors import ConfigError
    from rsfoundation.engine.resolve_config import loading_of
    from rsfoundation.inference.embeddings import EmbeddingModel, EmbeddingOptions, embed_scenes
    from rsfoundation.io.checkpoints import trusting

    if len(models) > 1:
        raise ConfigError("embeddings are those of one backbone", where="--model", fix="name one model")
    with trusting(trust):
        ready = EmbeddingModel(models[0], config, device, cfg_options or ())
    plain = EmbeddingOptions()
    options = EmbeddingOptions(
        given.window or plain.cell, given.batch_size, given.formats or plain.formats, given.gsd
    )
    scenes, files = embed_scenes(ready, images, out, options, loading_of(ready.cfg, *bands_and_range))
    rows = [(scene.name, scene.rows, scene.columns, scene.empty) for scene in scenes]
    table("embeddings", ("scene", "rows", "columns", "cells without data"), rows)
    for file in files:
        say(f"written: {file}")


def _predict_prompts(
    model: list[str],
    images: list[str],
    out: Path,
    prompts: tuple[tuple[str, ...], tuple[str, ...]],
    options: PredictOptions,
    loading: ImageLoading,
    device: str,
    unused: Mapping[str, object],
    report: Path | None,
) -> None:
    """Segment what prompts name; options that mean nothing then are refused."""
    from rsfoundation.core.errors import ConfigError
    from rsfoundation.inference.prompts import PromptModel, predict_prompts

    given = [name for name, value in unused.items() if value]
    if given or len(model) > 1:
        raise ConfigError(
            f"{given[0] if given else 'a second --model'} has no effect with prompts",
            where="rsf predict",
            fix="leave it out, or predict without --prompt-boxes and --prompt-points",
        )
    ready = PromptModel(model[0], device)
    results = predict_prompts(ready, images, out, *prompts, options, loading)
    _show(results)
    _write_report(results, report, out, [ready])
    say(f"files: {out}")


def _show(results: list[ScenePrediction]) -> None:
    """Print what was found, then what failed."""
    rows = [
        (scene.name, scene.windows, _found(scene), f"{scene.seconds:.1f}")
        for scene in results
        if scene.error is None
    ]
    if rows:
        table("predictions", ("scene", "windows", "found", "seconds"), rows)
    areas = [(scene.name, name, f"{area:,.0f}") for scene in results for name, area in scene.areas_m2.items()]
    if areas:
        table("area per class", ("scene", "class", "m²"), areas)
    for scene in results:
        if scene.error is not None:
            say(f"[bold red]{scene.name} failed[/bold red]")
            report_error(scene.error)


def _found(scene: ScenePrediction) -> str:
    text = summary_text(scene.summary)
    return f"{text}; {scene.empty_windows} empty windows skipped" if scene.empty_windows else text


def _write_report(
    results: list[ScenePrediction],
    report: Path | None,
    out: Path,
    models: Sequence[WindowModel | PromptModel],
) -> None:
    """Write the JSON report."""
    from rsfoundation import __version__
    from rsfoundation.core.files import write_json

    folder = out if out.is_dir() else None
    target = report or (folder / "report.json" if folder is not None else None)
    if target is None:
        return
    content = {
        "version": __version__,
        "models": [str(model.checkpoint) for model in models],
        "scenes": [_scene_report(scene) for scene in results],
    }
    write_json(target, content)


def _scene_report(scene: ScenePrediction) -> dict[str, Any]:
    error = scene.error
    return {
        "name": scene.name,
        "status": "done" if error is None else "failed",
        "windows": scene.windows,
        "empty_windows": scene.empty_windows,
        "summary": scene.summary,
        "areas_m2": scene.areas_m2,
        "files": [str(file) for file in scene.files],
        "seconds": round(scene.seconds, 3),
        "error": None if error is None else {"what": error.what, "where": error.where, "fix": error.fix},
    }


def _show_plans(plans: list[ScenePlan]) -> None:
    rows = [
        (
            plan.name,
            f"{plan.width} x {plan.height}",
            plan.crs if plan.crs is None or len(plan.crs) < 20 else "custom",
            "" if plan.gsd is None else f"{plan.gsd:.3g}",
            plan.windows,
            f"{plan.read_bytes / 1e6:,.0f}",
            f"{plan.memory_bytes / 1e6:,.0f}",
            f"{plan.seconds:,.0f}",
        )
        for plan in plans
    ]
    columns = ("scene", "pixels", "CRS", "m/pixel", "windows", "MB read", "MB memory", "seconds")
    table("what would be done", columns, rows)
