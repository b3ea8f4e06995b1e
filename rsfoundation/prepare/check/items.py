"""The data sets that a check looks at, of any task, as one list of items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError, RSFError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.change import BaseChangeDataset
from rsfoundation.datasets.instance import CocoInstanceDataset
from rsfoundation.datasets.label_check import LABEL_READERS
from rsfoundation.datasets.oriented.base import MIN_SIDE, OrientedDataset
from rsfoundation.datasets.segmentation import MaskDataset
from rsfoundation.engine.config import load_config, unknown_type_error
from rsfoundation.engine.resolve_config import use_image_loading
from rsfoundation.io.label_images import LabelImage
from rsfoundation.prepare.layouts import folder_datasets

SPLITS = ("train", "val", "test")
_CHECKED = (OrientedDataset, MaskDataset, BaseChangeDataset, CocoInstanceDataset)


@dataclass(frozen=True, eq=False)
class Item:
    """One sample: an image, or a pair of dates, with its labels.

    Attributes:
        split: Name of its split.
        name: Name of the sample: the stem of its first image, or that of a virtual patch.
        images: Image files.
        entry: The data set's entry, which label maps are read by.
        label: Label file, where there is one.
        quads: Corners ``(N, 8)`` of oriented boxes, or of the boxes of instances, in pixels.
        labels: Class of each of them.
        window: Column, row and side of the part of the file that is the image.
    """

    split: str
    name: str
    images: tuple[str, ...]
    entry: Mapping[str, Any]
    label: str = ""
    quads: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 8)))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    window: tuple[int, int, int] | None = None


@dataclass
class SplitData:
    """One split as it was read.

    Attributes:
        name: ``train``, ``val``, ...
        classes: Class names in label order.
        palette: Their colours.
        items: The samples.
        report: What the reader left out or repaired.
        reader: The step that reads label maps, where the task has them.
        oriented: Whether ``quads`` are labelled oriented boxes.
        min_side: Boxes with a shorter side are small.
    """

    name: str
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    items: list[Item] = field(default_factory=list)
    report: DatasetReport = field(default_factory=DatasetReport)
    reader: Any = None
    oriented: bool = False
    min_side: float = MIN_SIDE

    def label_map(self, item: Item) -> tuple[NDArray[Any], LabelImage] | None:
        """Return the labels ``(H, W)`` of an item and the file's content; ``None`` where it has no label map.

        Raises:
            DataError: The file cannot be used.
        """
        if self.reader is None or "seg_map_path" not in item.entry:
            return None
        found: tuple[NDArray[Any], LabelImage] = self.reader.labels({**item.entry, "seg_fields": []})
        return found


def read_splits(
    source: str | Path, overrides: Sequence[str] = (), *, kind: str | None = None
) -> list[SplitData]:
    """Read the splits of a config or of a folder in a known layout; broken parts are counted, not raised.

    Args:
        source: A config (path or shipped name), or a data folder.
        overrides: Changes of the config.
        kind: Layout of the folder, of :data:`~rsfoundation.prepare.layouts.LAYOUTS`; found when not given.

    Raises:
        RSFError: There is no such config or folder, or the layout is not known.
    """
    folder = Path(source)
    if kind is not None and not folder.is_dir():
        raise DataError(f"there is no folder {folder}", where=folder, fix="name the folder of the data set")
    cfg = Config(folder_datasets(folder, kind)) if folder.is_dir() else load_config(str(source), overrides)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    use_image_loading(cfg)
    names = [name for name in SPLITS if cfg.get(f"{name}_dataloader")]
    names += [key.removesuffix("_dataloader") for key in cfg if key.endswith("_dataloader")]
    names = list(dict.fromkeys(name for name in names if cfg.get(f"{name}_dataloader")))
    if not names:
        raise ConfigError(
            "the config has no data set", where=cfg.filename, fix="name a config with dataloaders"
        )
    splits: list[SplitData] = []
    for name in names:
        split = _read(name, cfg[f"{name}_dataloader"]["dataset"], cfg)
        paths = [item.images for item in split.items]
        same = next((s.name for s in splits if paths and [i.images for i in s.items] == paths), None)
        if same is None:
            splits.append(split)
    return splits


def _read(name: str, settings: Any, cfg: Config) -> SplitData:
    """Build the data set of a split; one that cannot be built has no items, and the error in its report."""
    split = SplitData(name)
    try:
        dataset = DATASETS.build(_for_checking(settings))
    except RSFError as error:
        problem = (
            error if isinstance(error, DataError) else DataError(error.what, where=error.where, fix=error.fix)
        )
        split.report.error("data sets that cannot be read", problem, error.where or name)
        return split
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    for part in _parts(dataset):
        split.report.merge(getattr(part, "report", DatasetReport()))
        meta = part.metainfo
        split.classes = split.classes or tuple(meta.get("classes") or ())
        split.palette = split.palette or tuple(tuple(colour) for colour in meta.get("palette") or ())
        split.reader = split.reader or reader_of(part)
        split.oriented |= isinstance(part, OrientedDataset)
        split.items += _items(name, part)
    split.min_side = next((node["min_side"] for node in _nodes(settings) if "min_side" in node), MIN_SIDE)
    split.report.images = len(split.items)
    return split


def _for_checking(settings: Any) -> Any:
    """Return the settings of a data set that leaves out and counts what is broken, and keeps empty images."""
    settings = Config(dict(dataset=settings)).copy()["dataset"]
    for node in _nodes(settings):
        kind = DATASETS.get(node["type"]) if isinstance(node["type"], str) else node["type"]
        if isinstance(kind, type) and issubclass(kind, _CHECKED):
            node.update(on_error="count", filter_cfg=None)
            if issubclass(kind, OrientedDataset):
                node.update(min_side=0.0)  # so that boxes without area are counted apart from small ones
    return settings


def _nodes(settings: Any) -> Iterator[Any]:
    """Yield the settings of a data set and of those that it wraps."""
    yield settings
    for part in settings.get("datasets") or ():
        yield from _nodes(part)
    if isinstance(settings.get("dataset"), dict):
        yield from _nodes(settings["dataset"])


def _parts(dataset: Any) -> Iterator[Any]:
    """Yield a data set, or those that it wraps."""
    wrapped = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    for part in wrapped:
        if part is not None:
            yield from _parts(part)
    if wrapped == [None]:
        yield dataset


def _items(split: str, dataset: Any) -> Iterator[Item]:
    table = dataset.data_list if isinstance(dataset, OrientedDataset) else None
    for row in range(len(dataset)):
        item = item_of(split, dataset.get_data_info(row))
        if table is not None:
            item = replace(item, name=str(table.names[row]), label=str(table.label_files[row]))
        yield item


def item_of(split: str, info: Mapping[str, Any]) -> Item:
    """Return an entry of a data set of any task as an item.

    Args:
        split: Name of its split.
        info: What ``get_data_info`` of the data set returns.
    """
    paths = info["img_path"]
    images = tuple(map(str, paths)) if isinstance(paths, (list, tuple)) else (str(paths),)
    quads, labels = np.zeros((0, 8)), np.zeros(0, np.int64)
    objects = info.get("instances") or ()
    if objects:
        boxes = np.array([item["bbox"] for item in objects], dtype=np.float64)
        quads = boxes if boxes.shape[1] == 8 else boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
        labels = np.array([item["bbox_label"] for item in objects], dtype=np.int64)
    name, window = Path(images[0]).stem, info.get("window")
    if window is not None:  # patches of label maps have no name of their own
        name = str(info.get("img_id") or f"{name}__{'_'.join(map(str, window))}")
    label = str(info.get("seg_map_path") or "")
    return Item(split, name, images, info, label, quads, labels, window)


def reader_of(dataset: Any) -> Any:
    """Return the step of a data set, or of those it wraps, that reads label maps, or ``None``."""
    for part in _parts(dataset):
        for step in getattr(getattr(part, "pipeline", None), "transforms", ()):
            if isinstance(step, LABEL_READERS):
                return step
    return None
