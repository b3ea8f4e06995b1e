"""Masks for prompts: SAM segments what boxes and points name, in images and in scenes of any size."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from mmengine.logging import MMLogger
from numpy.typing import NDArray
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.parallel import with_progress
from rsfoundation.core.task import Classes, PredictsScenes, Task, Window, require
from rsfoundation.engine.environment import use_device
from rsfoundation.geometry.masks import CroppedMask
from rsfoundation.inference.instances import InstanceMasks
from rsfoundation.inference.journal import Journal
from rsfoundation.inference.predict import PredictOptions, ScenePrediction
from rsfoundation.inference.products import as_rgb, check_formats, write_products
from rsfoundation.inference.scenes import Scene, SceneInput, SceneList, open_scene
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.vectors import read_shapes
from rsfoundation.models.prompt.sam import SAM, sam_from_checkpoint
from rsfoundation.registry import TASKS

_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of the RGB images that SAM was trained on
_ROOM = 1.5  # a prompt's window is at least so many times as long as the prompt
_MARGIN = 8  # part of a window's side that prompts which share it keep from its edges
_PROMPTS_AT_ONCE = 32
_SYNTAX = (
    "x1,y1,x2,y2 of a box, or x,y of a point; points of one object are joined by ';', 0 after y is background"
)


@dataclass(frozen=True)
class Prompt:
    """One object: a box, points, or both, in pixels of the scene.

    Attributes:
        points: ``(n, 2)``; n may be 0.
        labels: ``(n,)``: 1 foreground, 0 background.
        box: ``(x1, y1, x2, y2)``, or None.
    """

    points: NDArray[np.float64]
    labels: NDArray[np.int64]
    box: tuple[float, float, float, float] | None = None

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Corners around everything: left, top, right, bottom."""
        corners = (
            self.points if self.box is None else np.concatenate([self.points, [self.box[:2], self.box[2:]]])
        )
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def read_prompts(
    boxes: Sequence[str], points: Sequence[str], reference: GeoReference, scene: Path
) -> list[Prompt]:
    """Read the prompts of a scene, one object each.

    Args:
        boxes: ``x1,y1,x2,y2`` in pixels, or files: text with one box a line in pixels, or any vector file,
            whose polygons' bounds are taken in its own CRS.
        points: ``x,y`` or ``x,y,label`` in pixels, several joined by ``;`` for one object, or files: text
            with one object a line, or any vector file of points.
        reference: Of the scene.
        scene: Its file, for errors.

    Raises:
        ConfigError: A text is no prompt, or a vector file is given for a scene without a transform.
        DataError: A file cannot be read, or holds no prompt.
    """
    made = [prompt for text in boxes for prompt in _read(text, "--prompt-boxes", 4, reference, scene)]
    return made + [
        prompt for text in points for prompt in _read(text, "--prompt-points", 2, reference, scene)
    ]


def _read(text: str, option: str, numbers: int, reference: GeoReference, scene: Path) -> Iterator[Prompt]:
    path = Path(text)
    if not path.is_file():
        yield _parse(text, numbers, option)
        return
    if path.suffix.lower() not in (".txt", ".csv"):
        yield from _from_vectors(path, numbers, reference, scene)
        return
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    found = [
        (number, line) for number, line in enumerate(lines, start=1) if line and not line.startswith("#")
    ]
    if not found:
        raise DataError("the file holds no prompt", where=path, fix=f"a line each: {_SYNTAX}")
    for number, line in found:
        yield _parse(line, numbers, f"{path}:{number}")


def _parse(text: str, numbers: int, where: str) -> Prompt:
    try:
        rows = [[float(value) for value in part.split(",")] for part in text.split(";")]
        if not all(math.isfinite(value) for row in rows for value in row):
            raise ValueError("not finite")
        if numbers == 4:
            ((x1, y1, x2, y2),) = rows
            if not (x1 < x2 and y1 < y2):
                raise ValueError("no area")
            return Prompt(np.zeros((0, 2)), np.zeros(0, np.int64), (x1, y1, x2, y2))
        if not all(len(row) == 2 or (len(row) == 3 and row[2] in (0, 1)) for row in rows):
            raise ValueError("no point")
    except ValueError:
        raise ConfigError(f"{text!r} is neither a file nor a prompt", where=where, fix=_SYNTAX) from None
    labels = np.array([row[2] if len(row) == 3 else 1 for row in rows], np.int64)
    return Prompt(np.array([row[:2] for row in rows]), labels)


def _from_vectors(path: Path, numbers: int, reference: GeoReference, scene: Path) -> Iterator[Prompt]:
    if reference.transform is None:
        raise ConfigError(
            "the scene has no transform, so that a vector file has no place in it",
            where=scene,
            fix="georeference the scene, or give prompts in pixels",
        )
    wanted = ("Polygon", "MultiPolygon") if numbers == 4 else ("Point",)
    for shape in read_shapes(path, reference, wanted, "prompts", "draw some, or give pixels"):
        pixels = shapely.get_coordinates(shape) - 0.5  # SAM's pixel centres are whole numbers
        if numbers == 4:
            (x1, y1), (x2, y2) = pixels.min(axis=0), pixels.max(axis=0)
            yield Prompt(
                np.zeros((0, 2)), np.zeros(0, np.int64), (float(x1), float(y1), float(x2), float(y2))
            )
        else:
            yield Prompt(pixels, np.ones(len(pixels), np.int64))


class PromptModel:
    """A SAM and the task that draws and writes its masks.

    Args:
        checkpoint: See :func:`rsfoundation.models.prompt.sam.sam_from_checkpoint`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    classes = Classes(("object",), ((220, 60, 20),))

    def __init__(self, checkpoint: str, device: str = "auto") -> None:
        self.device = use_device(device)
        self.checkpoint = checkpoint
        self.sam: SAM = sam_from_checkpoint(checkpoint).to(self.device)
        self.task: Task = TASKS.build(dict(type="InstanceSegmentation"))
        self.scenes = require(self.task, PredictsScenes, "rsf predict")
        self.side: int = max(self.sam.prompt_encoder.input_shape)

    @torch.inference_mode()
    def masks(
        self, image: NDArray[np.uint8], prompts: Sequence[Prompt]
    ) -> list[tuple[NDArray[np.bool_], float]]:
        """Return mask ``(H, W)`` and estimated IoU of each prompt.

        Args:
            image: RGB ``(H, W, 3)`` uint8. It is scaled so that its longer side is SAM's native one, and
                padded to a square, as SAM was trained.
            prompts: In pixels of the image.
        """
        height, width = image.shape[:2]
        scale = self.side / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float()
        pixels = F.interpolate(pixels, (rows, columns), mode="bilinear", antialias=True)
        mean, std = (torch.tensor(x, device=self.device)[:, None, None] for x in (_MEAN, _STD))
        padded = F.pad((pixels - mean) / std, (0, self.side - columns, 0, self.side - rows))
        embedding = self.sam.embed_image(padded)
        made: dict[int, tuple[NDArray[np.bool_], float]] = {}
        for group in _alike(prompts):
            for start in range(0, len(group), _PROMPTS_AT_ONCE):
                places = group[start : start + _PROMPTS_AT_ONCE]
                found = self._decode(embedding, [prompts[place] for place in places], scale, (height, width))
                made.update(zip(places, found, strict=True))
        return [made[place] for place in range(len(prompts))]

    def _decode(
        self, embedding: torch.Tensor, prompts: Sequence[Prompt], scale: float, size: tuple[int, int]
    ) -> list[tuple[NDArray[np.bool_], float]]:
        """Return masks of prompts with equally many points."""
        arguments: dict[str, Any] = {}
        if len(prompts[0].points):
            points = np.stack([prompt.points for prompt in prompts])
            labels = np.stack([prompt.labels for prompt in prompts])
            arguments["input_points"] = torch.from_numpy(points * scale).float().to(self.device)[None]
            arguments["input_labels"] = torch.from_numpy(labels).to(self.device)[None]
        if prompts[0].box is not None:
            boxes = np.array([prompt.box for prompt in prompts], np.float32) * scale
            arguments["input_boxes"] = torch.from_numpy(boxes).to(self.device)[None]
        # One point may mean a part, an object or a group: of three masks, the one that SAM trusts most.
        ambiguous = prompts[0].box is None and len(prompts[0].points) == 1
        masks, scores = self.sam(image_embeddings=embedding, multimask_output=ambiguous, **arguments)
        best = scores[0].argmax(dim=-1)
        kept = masks[0].gather(1, best[:, None, None, None].expand(-1, 1, *masks.shape[3:]))[:, 0]
        rows, columns = (max(1, round(side * scale)) for side in size)
        made = []
        for logits, score in zip(kept, scores[0].amax(dim=-1).clamp(0, 1).tolist(), strict=True):
            whole = F.interpolate(logits[None, None].float(), (self.side, self.side), mode="bilinear")
            own = F.interpolate(whole[..., :rows, :columns], size, mode="bilinear")[0, 0]
            made.append(((own > 0).cpu().numpy(), score))
        return made


def _alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Group the places of prompts with equally many points, and a box or none, in order of appearance."""
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault((len(prompt.points), prompt.box is None), []).append(place)
    return list(groups.values())


def plan_windows(
    prompts: Sequence[Prompt], height: int, width: int, side: int
) -> Iterator[tuple[Window, list[int]]]:
    """Choose windows around prompts; prompts that fit into the window of an earlier one share it.

    Args:
        prompts: In pixels of the scene.
        height: Of the scene.
        width: Of the scene.
        side: Of a window; larger where a prompt needs it, and never larger than the scene.

    Yields:
        A window and the numbers of its prompts.
    """
    bounds = np.array([prompt.bounds for prompt in prompts]).reshape(-1, 4)
    waiting = np.ones(len(bounds), bool)
    for number, (left, top, right, bottom) in enumerate(bounds):
        if not waiting[number]:
            continue
        own = max(side, math.ceil(_ROOM * max(right - left, bottom - top)))
        w, h = min(own, width), min(own, height)
        x = int(np.clip(round((left + right - w) / 2), 0, width - w))
        y = int(np.clip(round((top + bottom - h) / 2), 0, height - h))
        # Others share it where they have room to its edges, or the scene ends there; the smallest ones are
        # not seen in a window that is read at a coarser scale.
        low = np.array([x + own / _MARGIN if x else -np.inf, y + own / _MARGIN if y else -np.inf])
        right_edge = x + w - own / _MARGIN if x + w < width else np.inf
        bottom_edge = y + h - own / _MARGIN if y + h < height else np.inf
        inside = (bounds[:, :2] >= low).all(axis=1)
        inside &= (bounds[:, 2:] <= np.array([right_edge, bottom_edge])).all(axis=1)
        if own > side:
            inside &= _ROOM * (bounds[:, 2:] - bounds[:, :2]).max(axis=1) >= own / 2
        inside &= waiting
        inside[number] = True
        waiting &= ~inside
        yield Window(x, y, w, h), np.flatnonzero(inside).tolist()


def segment_scene(
    model: PromptModel, scene: Scene, prompts: Sequence[Prompt], side: int
) -> tuple[InstanceMasks, int]:
    """Return one mask per prompt that has one, in pixels of the scene and the order of the prompts.

    Args:
        model: The model.
        scene: The scene; only the windows around prompts are read.
        prompts: The prompts.
        side: Of a window in pixels.

    Returns:
        The masks, and how many windows were read.

    Raises:
        DataError: A prompt is outside the scene, or pixels cannot be read.
    """
    for number, prompt in enumerate(prompts, start=1):
        left, top, right, bottom = prompt.bounds
        if right < 0 or bottom < 0 or left >= scene.width or top >= scene.height:
            raise DataError(
                f"prompt {number} is at {left:g}, {top:g}, outside the {scene.width} x {scene.height} px",
                where=scene.paths[0],
                fix="give pixels of this scene, x before y",
            )
    found: dict[int, tuple[CroppedMask, float]] = {}
    windows = list(plan_windows(prompts, scene.height, scene.width, side))
    for window, numbers in with_progress(windows, total=len(windows), title="segmenting"):
        pixels, factor = _read_window(scene, window, model.side)
        local = [_moved(prompts[number], window, factor) for number in numbers]
        for number, (mask, score) in zip(numbers, model.masks(pixels, local), strict=True):
            cropped = _place(mask, window, factor)
            if cropped is not None:
                found[number] = (cropped, score)
    if len(found) < len(prompts):
        without = [number + 1 for number in range(len(prompts)) if number not in found]
        MMLogger.get_current_instance().warning("%s: prompts without a mask: %s", scene.name, without)
    kept = [found[number] for number in sorted(found)]
    scores = np.array([score for _, score in kept])
    masks = tuple(mask for mask, _ in kept)
    labels = np.zeros(len(kept), int)
    result = InstanceMasks(scene.height, scene.width, masks, scores, labels, model.classes.names)
    return result, len(windows)


def _read_window(scene: Scene, window: Window, side: int) -> tuple[NDArray[np.uint8], float]:
    """Return a window as RGB, no side longer than about ``side``, and its pixels per pixel of the scene."""
    factor = min(1.0, side / max(window.width, window.height))
    if factor == 1.0:
        return as_rgb(scene.crops(window)[0]), 1.0
    size = (max(1, round(window.width * factor)), max(1, round(window.height * factor)))
    image = scene.images[0]
    return as_rgb(image.loading.convert(image.reader.read(window, out_size=size))), factor


def _moved(prompt: Prompt, window: Window, factor: float) -> Prompt:
    """Return a prompt in pixels of a window that was read at another scale."""
    offset = np.array([window.left, window.top])
    points = (prompt.points - offset + 0.5) * factor - 0.5
    if prompt.box is None:
        return replace(prompt, points=points)
    corners = (np.array(prompt.box).reshape(2, 2) - offset + 0.5) * factor - 0.5
    x1, y1, x2, y2 = corners.ravel().tolist()
    return replace(prompt, points=points, box=(x1, y1, x2, y2))


def _place(mask: NDArray[np.bool_], window: Window, factor: float) -> CroppedMask | None:
    """Return a mask of a window in pixels of the scene."""
    if factor != 1.0:
        rows = np.minimum((np.arange(window.height) + 0.5) * factor, mask.shape[0] - 1).astype(int)
        columns = np.minimum((np.arange(window.width) + 0.5) * factor, mask.shape[1] - 1).astype(int)
        mask = mask[rows][:, columns]
    return CroppedMask.cut_out(mask, window.left, window.top)


@dataclass(frozen=True)
class _PromptedScene:
    """A complete prediction, for :func:`write_products`."""

    scene: Scene
    model: PromptModel
    journal: Journal


def predict_prompts(
    model: PromptModel,
    inputs: Sequence[SceneInput],
    out: Path,
    boxes: Sequence[str] = (),
    points: Sequence[str] = (),
    options: PredictOptions = PredictOptions(),  # noqa: B008 (frozen)
    loading: ImageLoading | None = None,
) -> list[ScenePrediction]:
    """Segment what prompts name in one or several images or scenes, and write the masks.

    Args:
        model: The model.
        inputs: See :func:`rsfoundation.inference.scenes.list_scenes`. The prompts hold for each.
        out: The folder of the results.
        boxes: See :func:`read_prompts`.
        points: See :func:`read_prompts`.
        options: ``window`` (SAM's native size when not given), ``formats``, ``picture`` and ``stretch``
            count.
        loading: Bands and value range; the first three bands of 8 bit when not given.

    Returns:
        One entry per scene.

    Raises:
        RSFError: An option does not fit, a prompt or an input cannot be read, or results cannot be written.
    """
    check_formats(model, options.formats)
    scenes = SceneList.find(inputs, 1)
    made = []
    for paths, name in zip(scenes.scenes, scenes.names, strict=True):
        started = time.monotonic()
        scene = open_scene(paths, loading, label=name, stretch=options.stretch)
        try:
            prompts = read_prompts(boxes, points, scene.georeference, paths[0])
            result, windows = segment_scene(model, scene, prompts, options.window or model.side)
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=out) as folder:
                done = _PromptedScene(scene, model, Journal(Path(folder), {}))
                files = write_products(done, result, out, options.products)
        finally:
            scene.close()
        seconds = time.monotonic() - started
        made.append(ScenePrediction(name, windows, result.summary(), tuple(files), seconds))
    return made
