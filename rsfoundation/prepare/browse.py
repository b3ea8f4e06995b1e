"""Pictures of samples: as they are in their files, and as the model receives them after augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from rsfoundation.core.choices import BrowseStage, Split
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Draws, require
from rsfoundation.datasets.samplers import spread
from rsfoundation.engine.config import build_task, classes_of, load_config, unknown_type_error
from rsfoundation.engine.resolve_config import use_image_loading
from rsfoundation.io.images import write_rgb
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.rasters import image_size
from rsfoundation.prepare.check.items import Item, SplitData, item_of, read_splits, reader_of
from rsfoundation.visualization import draw_boxes, overlay_classes, palette, side_by_side

_TILE, _COLUMNS, _GAP = 320, 4, 6  # pixels, and pictures in a row, of a contact sheet
_SIDE = 1024  # pixels; larger images are drawn smaller
_CHANGED = (255, 40, 40)
_OVERVIEW = 2048  # pixels; images without a label map are not read larger


def draw_item(
    item: Item, data: SplitData, place: int, side: int = _SIDE, *, enlarge: bool = False
) -> np.ndarray | None:
    """Draw one image of a sample as it is in its file, with its labels.

    Args:
        item: The sample.
        data: Its split: classes, colours and the reader of label maps.
        place: 0, or 1 for the second date, which shows what changed.
        side: Longest side of the picture in pixels.
        enlarge: Whether smaller images are enlarged to it.

    Returns:
        RGB ``uint8`` ``(H, W, 3)``; ``None`` where the image cannot be read.
    """
    try:
        width, height = image_size(item.images[place])
        overview = item.window is None and data.reader is None  # large images are not read whole
        whole = ImageLoading().picture(item.images[place], _OVERVIEW if overview else None)
    except DataError:
        return None
    if item.window is not None:
        x, y, extent = item.window
        whole = whole[y : y + extent, x : x + extent]
        height, width = whole.shape[:2]
    colours = list(data.palette or palette(max(1, len(data.classes))))
    if len(item.images) == 2 and len(colours) == 2:
        colours[1] = _CHANGED  # white, as data sets have it, is hard to see over roofs
    labels = _label_map(item, data) if place == len(item.images) - 1 else None
    if labels is not None and labels.shape == whole.shape[:2]:
        whole = overlay_classes(whole, labels, colours, 0.4, clear=(0,) if len(item.images) == 2 else ())
    scale = side / max(width, height)
    scale = scale if enlarge else min(1.0, scale)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(
        whole, size, interpolation=cv2.INTER_AREA if max(size) < max(whole.shape[:2]) else cv2.INTER_NEAREST
    )
    if len(item.quads):
        drawn = [colours[label % len(colours)] for label in item.labels.tolist()]
        small = draw_boxes(small, (item.quads.reshape(-1, 4, 2) + 0.5) * scale - 0.5, drawn)
    return small


def _label_map(item: Item, data: SplitData) -> np.ndarray | None:
    try:
        found = data.label_map(item)
    except DataError:
        return None
    return None if found is None else found[0]


def draw_samples(
    source: str | Path | Config,
    out: Path,
    *,
    split: Split = "train",
    count: int = 16,
    start: int = 0,
    stage: BrowseStage = "after",
    sheet: bool = False,
) -> list[Path]:
    """Draw samples of a config or of a data folder, with their labels.

    Args:
        source: A config (path, shipped name, or already read), or a folder in a known layout.
        out: Folder for the pictures.
        split: The data set.
        count: Number of samples.
        start: Index of the first sample.
        stage: ``after`` draws what the model receives, after augmentation; ``before`` what is in the files;
            ``both`` sets the two side by side. A folder has no augmentation: its files are drawn, from all
            over the split.
        sheet: One picture, ``sheet.png``, with all samples instead of one picture each.

    Returns:
        The files written.

    Raises:
        RSFError: There is no such data set, or the data is broken.
    """
    if not isinstance(source, Config) and Path(source).is_dir():
        pictures = _of_folder(Path(source), split, count, start)
    else:
        cfg = source if isinstance(source, Config) else load_config(str(source))
        pictures = _of_config(cfg, split, count, start, stage)
    if sheet:
        write_rgb(out / "sheet.png", contact_sheet([picture for _, picture in pictures]))
        return [out / "sheet.png"]
    for name, picture in pictures:
        write_rgb(out / f"{name}.png", picture)
    return [out / f"{name}.png" for name, _ in pictures]


def contact_sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures in rows of four, each at most 320 px wide and high, on white.

    Raises:
        DataError: There is no picture.
    """
    if not pictures:
        raise DataError("there is no sample to draw", fix="choose another split or a smaller --start")
    columns = min(_COLUMNS, len(pictures))
    step = _TILE + _GAP
    paper = np.full((-(-len(pictures) // columns) * step + _GAP, columns * step + _GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        scale = _TILE / max(picture.shape[:2])
        size = tuple(max(1, round(extent * scale)) for extent in picture.shape[1::-1])
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
        top, left = _GAP + number // columns * step, _GAP + number % columns * step
        paper[top : top + size[1], left : left + size[0]] = small
    return paper


def _of_folder(folder: Path, split: str, count: int, start: int) -> list[tuple[str, np.ndarray]]:
    splits = {data.name: data for data in read_splits(folder)}
    data = splits.get(split) or next(iter(splits.values()))
    if split not in splits and len(splits) > 1:
        raise ConfigError(
            f"the folder has no split {split!r}", where=folder, fix=f"--split {' or '.join(splits)}"
        )
    pictures = []
    for row in spread(list(range(start, len(data.items))), count):
        item = data.items[row]
        shown = _before(item, data)
        if shown is not None:
            pictures.append((f"{row:05d}_{item.name}", shown))
    if not pictures:
        data.report.enforce("fail")
        raise DataError("there is no image that can be drawn", where=folder, fix="`rsf check` says why")
    return pictures


def _before(item: Item, data: SplitData) -> np.ndarray | None:
    """Draw all images of a sample as they are in the files."""
    pictures = [draw_item(item, data, place) for place in range(len(item.images))]
    panels = [picture for picture in pictures if picture is not None]
    if len(panels) != len(pictures):
        return None
    if len(panels) == 1:
        return panels[0]
    return side_by_side(list(zip(("first date", "second date: change"), panels, strict=True)))


def _of_config(
    cfg: Config, split: Split, count: int, start: int, stage: BrowseStage
) -> list[tuple[str, np.ndarray]]:
    loader = cfg.get(f"{split}_dataloader")
    if loader is None:
        raise ConfigError(f"the config has no {split}_dataloader", where=cfg.filename)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    use_image_loading(cfg)
    task = require(build_task(cfg), Draws, "rsf browse")
    try:
        dataset = DATASETS.build(loader.dataset)
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    classes = classes_of(dataset.metainfo)
    data = SplitData(split, classes.names, classes.palette, reader=reader_of(dataset))
    pictures = []
    for row in islice(range(len(dataset)), start, start + count):
        panels = []
        name = ""
        if stage != "after":
            item = item_of(split, dataset.get_data_info(row))
            name, shown = item.name, _before(item, data)
            panels += [("before augmentation", shown)] if shown is not None else []
        if stage != "before":
            packed = dataset[row]
            sample = packed["data_samples"]
            paths = task.image_paths(sample)
            name = Path(paths[0]).stem
            drawn = task.draw_truth(_rgb_images(packed["inputs"], len(paths)), sample, classes)
            panels.append(("after augmentation", drawn))
        if panels:
            picture = panels[0][1] if len(panels) == 1 else side_by_side(panels)
            pictures.append((f"{row:05d}_{name}", picture))
    return pictures


def _rgb_images(inputs: Any, dates: int) -> list[np.ndarray]:
    """Turn packed inputs, a tensor ``(bands * dates, H, W)``, into one RGB image per date.

    Three bands start with blue; of others the first three are shown, or the first. Values beyond 0..255 are
    stretched.
    """
    planes = inputs.float().numpy()
    low, high = planes.min(), planes.max()
    if low < 0 or high > 255 or (inputs.is_floating_point() and high <= 1):
        planes = (planes - low) * (255 / max(high - low, 1e-9))
    images = []
    for bands in np.split(planes.astype(np.uint8), dates):
        shown = bands[:3] if len(bands) > 3 else bands[::-1]
        shown = shown if len(shown) >= 3 else np.repeat(bands[:1], 3, axis=0)
        images.append(np.ascontiguousarray(shown.transpose(1, 2, 0)))
    return images
