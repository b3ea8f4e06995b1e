"""The files of a predicted scene: maps, objects, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError, RSFError
from rsfoundation.core.task import Classes, Draws, PredictsMaps, PredictsScenes, SceneResult, Task
from rsfoundation.inference.journal import Journal
from rsfoundation.inference.polygons import map_polygons
from rsfoundation.inference.scene_run import MapRun
from rsfoundation.inference.scenes import Scene
from rsfoundation.io.images import write_rgb
from rsfoundation.io.styles import map_style
from rsfoundation.io.vectors import VECTOR_FORMATS, Features, write_vectors
from rsfoundation.visualization import side_by_side
from rsfoundation.visualization.overlays import write_html_map

OVERVIEW_SIDE = 2048  # longest side of pictures of scenes; smaller scenes are shown in full
_RASTER_FORMATS = ("tif", "probabilities")
_GEO_PACKAGES = ("rasterio", "pyogrio", "geopandas", "pyproj")


@dataclass(frozen=True)
class ProductOptions:
    """Which files are written.

    Attributes:
        formats: Kinds of file; what suits the scene when empty.
        picture: Whether to draw an overlay.
        simplify: Largest distance in pixels by which outlines of a map's polygons may move; neighbours move
            together, so that no gaps open.
        min_area: Polygons of a map with less pixels are left out.
        file: The one file to write, instead of files named after the scene.
    """

    formats: tuple[str, ...] = ()
    picture: bool = True
    simplify: float = 0.0
    min_area: float = 0.0
    file: Path | None = None


class SceneModel(Protocol):
    """What the files of a scene need of the model that predicted it."""

    @property
    def task(self) -> Task:
        """Its task."""

    @property
    def scenes(self) -> PredictsScenes:
        """The task, as one that predicts scenes."""

    @property
    def classes(self) -> Classes:
        """Names and colours of its classes."""


class SceneResultSource(Protocol):
    """A complete prediction of one scene."""

    @property
    def scene(self) -> Scene:
        """The scene."""

    @property
    def model(self) -> SceneModel:
        """The model."""

    @property
    def journal(self) -> Journal:
        """Its folder is where files are written before they get their place."""


def known_formats(model: SceneModel) -> tuple[str, ...]:
    """Return every kind of file that results of a model can be written to."""
    kinds: list[str] = [*model.scenes.writers, *model.scenes.more_writers]
    if is_map(model):
        kinds += _RASTER_FORMATS
    if is_map(model) or _has_features(model):
        kinds += [*VECTOR_FORMATS, "html"]
    return tuple(kinds)


def check_formats(model: SceneModel, formats: Sequence[str]) -> None:
    """Check that results of a model can be written as asked.

    Args:
        model: The model.
        formats: Kinds of file.

    Raises:
        ConfigError: One is unknown to the task, or needs packages that are not installed.
    """
    known = known_formats(model)
    for kind in formats:
        if kind not in known:
            raise ConfigError(
                f"{model.task.name} results cannot be written as '{kind}'",
                where="--format",
                fix=f"choose among {', '.join(known)}",
            )
        needs_geo = kind in (*VECTOR_FORMATS, *_RASTER_FORMATS, "html")
        if needs_geo and not has_geo():
            raise ConfigError(
                f"'{kind}' needs packages that are not installed",
                where="--format",
                fix="pip install 'rsfoundation[geo]'",
            )


def has_geo() -> bool:
    """Say whether the packages of the extra ``geo`` are installed."""
    return all(find_spec(name) is not None for name in _GEO_PACKAGES)


def is_map(model: SceneModel) -> bool:
    """Say whether a model predicts one class per pixel."""
    return isinstance(model.scenes, PredictsMaps)


def _has_features(model: SceneModel) -> bool:
    return type(model.scenes).features is not PredictsScenes.features


def formats_for(model: SceneModel, scene: Scene, asked: Sequence[str]) -> tuple[str, ...]:
    """Return what to write for a scene: as asked, else what suits a scene with or without a CRS.

    Args:
        model: The model.
        scene: The scene.
        asked: Kinds of file that the user named.
    """
    if asked:
        return tuple(dict.fromkeys(asked))
    if scene.is_referenced and has_geo() and (is_map(model) or _has_features(model)):
        return ("tif", "gpkg") if is_map(model) else ("gpkg",)
    return tuple(model.scenes.writers)


def write_products(
    run: SceneResultSource, result: SceneResult, out: Path, options: ProductOptions
) -> list[Path]:
    """Write all files of a complete scene; each appears whole or not at all.

    Files are ``<scene>.<kind>``, ``<scene>_probabilities.tif``, ``<scene>_overlay.png`` and, where ground
    truth is next to the scene, ``<scene>_comparison.png``.

    Args:
        run: The scene and its model.
        result: Its prediction.
        out: The folder.
        options: Which files.

    Returns:
        The files.

    Raises:
        RSFError: A file cannot be written.
    """
    writer = _Products(run, result, out, options)
    formats = formats_for(run.model, run.scene, options.formats)
    return writer.write(formats)


class _Products:
    def __init__(
        self, run: SceneResultSource, result: SceneResult, out: Path, options: ProductOptions
    ) -> None:
        self.run, self.result, self.out, self.options = run, result, out, options
        self.scene, self.model, self.classes = run.scene, run.model, run.model.classes
        self.colours = list(zip(self.classes.names, self.classes.palette, strict=True))
        self._features: Features | None = None

    def write(self, formats: Sequence[str]) -> list[Path]:
        self.out.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        writers = {**self.model.scenes.writers, **self.model.scenes.more_writers}
        for kind in (kind for kind in formats if kind in writers):
            target = self._path(kind)
            aside = self.run.journal.folder / target.name
            writers[kind](self.result, aside)
            aside.replace(target)
            files.append(target)
        if self.options.picture:
            files += self._draw()
        if "html" in formats and not isinstance(self.run, MapRun):
            files.append(self._html())
        vectors = [kind for kind in formats if kind in VECTOR_FORMATS]
        if isinstance(self.run, MapRun):
            files += self._write_map(self.run, formats, vectors)
        elif vectors:
            files += self._write_vectors(vectors)
        return files

    def _path(self, kind: str) -> Path:
        if self.options.file is not None:
            return self.options.file
        ending = "_coco.json" if kind == "coco" else f".{kind}"
        return self.out / f"{self.scene.name}{ending}"

    def _write_map(self, run: MapRun, formats: Sequence[str], vectors: Sequence[str]) -> list[Path]:
        """Assemble the class map, make polygons of it, move it to its place."""
        if not ("tif" in formats or "probabilities" in formats or vectors or "html" in formats):
            return []
        files = []
        if "probabilities" in formats:
            target = self.out / f"{self.scene.name}_probabilities.tif"
            run.assemble_probabilities(target)
            files.append(target)
        assembled = run.assemble()
        if vectors or "html" in formats:
            self._features = map_polygons(
                assembled,
                self.classes,
                background=run.task.background,
                simplify=self.options.simplify,
                min_area=self.options.min_area,
            )
            files += self._write_vectors(vectors)
        if "html" in formats:
            files.append(self._html())
        if "tif" in formats:
            target = self._path("tif")
            assembled.replace(target)
            files.insert(0, target)
            style = target.with_suffix(".qml")  # of the polygons of this name, too
            style.write_text(map_style(self.colours), encoding="utf-8")
            if style not in files:
                files.append(style)
        return files

    def _write_vectors(self, kinds: Sequence[str]) -> list[Path]:
        features = self._objects()
        changed = max(path.stat().st_mtime for path in self.scene.paths)
        files = []
        for kind in kinds:
            files += write_vectors(
                features,
                self.scene.georeference,
                self._path(kind),
                format_=kind,
                layer=self.scene.name,
                colours=self.colours,
                changed=changed,
            )
        return list(dict.fromkeys(files))

    def _objects(self) -> Features:
        if self._features is None:
            found = self.model.scenes.features(self.result, self.classes)
            if found is None:
                raise ConfigError(f"{self.model.task.name} has no objects to write", where="--format")
            self._features = found
        return self._features

    def _html(self) -> Path:
        target = self._path("html")
        pictures = self.scene.overview(OVERVIEW_SIDE)
        write_html_map(
            target,
            title=self.scene.name,
            picture=as_rgb(pictures[-1]),
            size=self.scene.size,
            features=self._objects(),
            reference=self.scene.georeference,
            colours=self.colours,
        )
        return target

    def _draw(self) -> list[Path]:
        """Draw the overlay and, where ground truth is next to the scene, both side by side."""
        try:
            images = [as_rgb(image) for image in self.scene.overview(OVERVIEW_SIDE)]
        except ConfigError as error:
            MMLogger.get_current_instance().warning("%s: no picture: %s", self.scene.name, error.what)
            return []
        height, width = images[0].shape[:2]
        in_full = (height, width) == self.scene.size
        shown = self.model.scenes.shrunk(self.result, height, width)
        drawn = self.model.scenes.draw_result(images, shown, self.classes)
        overlay = self.out / f"{self.scene.name}_overlay.png"
        write_rgb(overlay, drawn)
        compared = self._compare(images, shown, drawn) if in_full else None
        if compared is None:
            return [overlay]
        comparison = self.out / f"{self.scene.name}_comparison.png"
        write_rgb(comparison, compared)
        return [overlay, comparison]

    def _compare(self, images: list[np.ndarray], shown: Any, drawn: np.ndarray) -> np.ndarray | None:
        """Draw truth and result; labels that cannot be read cost a warning and the picture."""
        scenes, task = self.model.scenes, self.model.task
        try:
            truth = scenes.find_truth(self.scene.paths, self.classes)
            if truth is None:
                return None
            compared = scenes.draw_scene_comparison(images, truth, shown, self.classes)
            if compared is None and isinstance(task, Draws):
                expected = task.draw_truth(images, truth, self.classes)
                compared = side_by_side([("ground truth", expected), ("prediction", drawn)])
            return compared
        except (RSFError, ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
            where = getattr(error, "where", None) or f"the labels of {self.scene.paths[0]}"
            MMLogger.get_current_instance().warning(
                "%s: no comparison with ground truth, its labels cannot be used (%s): %s",
                self.scene.name, where, getattr(error, "what", error),
            )  # fmt: skip
            return None


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return an image as the model takes it as an RGB picture ``(H, W, 3)`` uint8.

    Three bands are turned from blue, green, red; of more, the first three are shown, of fewer the first.

    Args:
        image: ``(H, W, C)`` on the 0..255 scale.
    """
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8) if image.dtype != np.uint8 else image
    if pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels[..., ::-1])
    return np.ascontiguousarray(
        pixels[..., :3] if pixels.shape[2] > 3 else np.repeat(pixels[..., :1], 3, axis=2)
    )
