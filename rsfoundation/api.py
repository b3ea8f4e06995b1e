"""The Python API: what the verbs of ``rsf`` do, as functions with typed results.

``from rsfoundation import create_model, list_models, load_model, train, test, predict`` imports nothing heavy
until one of them is called for. The functions of the other verbs are here, ``rsfoundation.api.check_data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mmengine.config import Config

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.engine import evaluate as _evaluate
from rsfoundation.engine import train as _train
from rsfoundation.engine.benchmark import benchmark
from rsfoundation.engine.checkpointing.export_backbone import export_backbone
from rsfoundation.engine.checkpointing.zero_conversion import convert_zero
from rsfoundation.engine.evaluate import draw_worst
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.evaluation.submission.evaluate import evaluate_results
from rsfoundation.inference.embeddings import embed_scenes
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.plan import plan_scenes
from rsfoundation.inference.predict import PredictOptions, ScenePrediction
from rsfoundation.inference.predict import predict as _predict
from rsfoundation.inference.prompts import predict_prompts
from rsfoundation.models.factory import create_model, list_models
from rsfoundation.prepare.band_statistics import band_statistics
from rsfoundation.prepare.boxes import prepare_boxes
from rsfoundation.prepare.browse import draw_samples
from rsfoundation.prepare.change import make_change_pairs
from rsfoundation.prepare.check.html import write_html as write_check_page
from rsfoundation.prepare.check.run import check_data
from rsfoundation.prepare.instances import convert_instances
from rsfoundation.prepare.labels import convert_labels
from rsfoundation.prepare.maps import prepare_maps
from rsfoundation.prepare.polygons import draw_label_maps
from rsfoundation.prepare.split import split_images
from rsfoundation.prepare.tiling import tile_dota, tile_fair1m
from rsfoundation.prepare.toy.make import make_toy_scenes

if TYPE_CHECKING:
    from rsfoundation.engine.results import TestResult, TrainResult
    from rsfoundation.inference.scenes import SceneInput

__all__ = [
    "band_statistics",
    "benchmark",
    "check_data",
    "convert_instances",
    "convert_labels",
    "convert_zero",
    "create_model",
    "draw_label_maps",
    "draw_samples",
    "draw_worst",
    "embed_scenes",
    "evaluate_results",
    "export_backbone",
    "list_models",
    "load_model",
    "make_change_pairs",
    "make_toy_scenes",
    "plan_scenes",
    "predict",
    "predict_prompts",
    "prepare_boxes",
    "prepare_maps",
    "split_images",
    "test",
    "tile_dota",
    "tile_fair1m",
    "train",
    "write_check_page",
]

OptionsT = TypeVar("OptionsT")


def train(config: str | Path | Config, **options: Any) -> TrainResult:
    """Train a model and keep the record of the run, as ``rsf train`` does.

    Args:
        config: Path of a config, the name of a shipped one, or a config already read.
        **options: Fields of :class:`rsfoundation.engine.resolve_config.RunOptions`, such as
            ``work_dir='runs/a'``, ``device='cpu'``, ``resume='auto'`` and
            ``overrides=['train_cfg.max_epochs=4']``.

    Returns:
        Run folder, last and best checkpoint, metrics of the last validation, seconds.

    Raises:
        RSFError: The config, the data, an option or the checkpoint is wrong; the error names place and fix.
    """
    return _train.train(config, _options(RunOptions, options, "train"))


def test(
    config: str | Path | Config, checkpoint: str | Path | None = None, pictures: int = 8, **options: Any
) -> TestResult:
    """Test a checkpoint on the config's test set, as ``rsf test`` does.

    Args:
        config: Path of a config, the name of a shipped one, or a config already read.
        checkpoint: A checkpoint file or a run folder; the config's own run folder when not given.
        pictures: Number of pictures of truth and prediction to draw.
        **options: Fields of :class:`rsfoundation.engine.resolve_config.RunOptions`.

    Returns:
        Metrics, details per class, and the files that were written.

    Raises:
        RSFError: The config, the data, an option or the checkpoint is wrong; the error names place and fix.
    """
    return _evaluate.test(config, checkpoint, _options(RunOptions, options, "test"), pictures)


def load_model(
    checkpoint: str | Path,
    config: str | Path | None = None,
    device: str = "auto",
    overrides: Sequence[str] = (),
    tta: bool = False,
) -> WindowModel:
    """Load a trained model for prediction.

    Args:
        checkpoint: A checkpoint file, or a run folder (its best, else newest checkpoint is taken).
        config: The config; ``config.py`` next to the checkpoint when not given.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        overrides: ``key.sub=value`` strings applied to the config.
        tta: Predict each window several times, flipped and at several scales, as the task merges them.

    Returns:
        The model (``.network`` is the PyTorch module) with its classes and its test pipeline:
        ``.predict([[image]])`` takes arrays, :func:`predict` whole scenes.

    Raises:
        RSFError: The checkpoint or the config is missing, broken, or they do not belong together.
    """
    return WindowModel(checkpoint, config, device, overrides, tta)


def predict(
    model: WindowModel | str | Path,
    inputs: SceneInput | Sequence[SceneInput],
    out: str | Path = "predictions",
    **options: Any,
) -> list[ScenePrediction]:
    """Predict whole scenes and write the results, as ``rsf predict`` does.

    A scene that cannot be predicted does not stop the others: its ``error`` says why.

    Args:
        model: What :func:`load_model` returned, a checkpoint file or a run folder.
        inputs: A file, folder, pattern, list file (``.txt``) or address, or several; for change detection
            both dates one after the other, or a pair of folders.
        out: Folder of the results, or one file for one scene: ``ships.gpkg``.
        **options: Fields of :class:`rsfoundation.inference.predict.PredictOptions`, such as ``window=512``,
            ``gsd=0.3``, ``formats=('gpkg', 'html')``.

    Returns:
        One entry per scene, in the order of the inputs.

    Raises:
        RSFError: An option does not fit, an input does not exist, or no scene at all could be predicted.
    """
    settings = _options(PredictOptions, options, "predict")
    ready = model if isinstance(model, WindowModel) else load_model(model)
    scenes = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    return _predict(ready, scenes, Path(out), settings)


def _options(kind: type[OptionsT], given: Mapping[str, Any], function: str) -> OptionsT:
    """Return the dataclass of options; lists become tuples and folders paths, as the fields have them.

    Raises:
        ConfigError: An option is not a field.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # both are dataclasses
    values: dict[str, Any] = {}
    for name, value in given.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    for name in values:
        if name not in known:
            raise ConfigError(
                f"{function} has no option {name!r}",
                where=f"rsfoundation.{function}",
                fix=nearest(name, known) or f"one of {', '.join(known)}",
            )
    if values.get("work_dir") is not None:
        values["work_dir"] = Path(values["work_dir"])
    return kind(**values)
