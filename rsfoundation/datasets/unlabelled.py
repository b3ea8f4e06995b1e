"""Images and scenes without labels, window by window, for pretraining."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from mmengine.dataset import BaseDataset

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.core.reports import SKIPPING, DatasetReport, Example, Policy
from rsfoundation.core.task import Window
from rsfoundation.datasets.classification import SUFFIXES
from rsfoundation.geometry.windows import window_grid
from rsfoundation.io.rasters import RasterReader
from rsfoundation.registry import DATASETS

_MASK_SIDE = 1024  # longest side at which the valid pixels of a scene are looked up


@DATASETS.register_module()
class UnlabelledImages(BaseDataset):
    """Windows of images and GeoTIFF scenes of any size; pixels are read when they are needed.

    Images no larger than the window are taken whole. Of larger ones each window of a grid is an entry, and
    the loading step reads that window alone. Windows with too few valid pixels are left out and counted.

    Args:
        data_root: Folder of the images, at any depth.
        inputs: Files, folders or patterns below ``data_root``; everything there when not given.
        window: Side of a window in pixels; crops of the pipeline come from it.
        overlap: Pixels that neighbouring windows share.
        min_valid: Least share of pixels that hold data.
        on_error: ``fail`` stops at files that cannot be opened; ``skip`` leaves them out.
        **kwargs: As for mmengine's ``BaseDataset``.

    Attributes:
        report: What was left out.

    Raises:
        ConfigError: The overlap leaves no step.
        DataError: There are no images, or a file cannot be opened.
    """

    METAINFO: ClassVar[dict] = {}

    def __init__(
        self,
        data_root: str = "",
        inputs: Sequence[str] = (),
        window: int = 512,
        overlap: int = 0,
        min_valid: float = 0.5,
        on_error: Policy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        if not 0 <= overlap < window:
            raise ConfigError(
                f"windows of {window} with an overlap of {overlap} leave no step",
                where=type(self).__name__,
                fix="overlap=0",
            )
        self.inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        self.window, self.overlap, self.min_valid, self.on_error = window, overlap, min_valid, on_error
        self.report = DatasetReport()
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the windows of all images."""
        samples: list[dict[str, Any]] = []
        images = 0
        for path in self._files():
            try:
                samples += self._windows(path)
            except DataError as error:
                problem = DataError(error.what, where=path, fix=f"remove the file, or set {SKIPPING}")
                self.report.error("unreadable images", problem, path)
                continue
            images += 1
        self.report.enforce(self.on_error)
        where = self.data_root or ", ".join(self.inputs)
        if not samples:
            left_out = self.report.describe()
            raise DataError(
                "there are no images" + (f": left out {left_out}" if left_out else ""),
                where=where,
                fix=f"check data_root and inputs; known suffixes: {', '.join(SUFFIXES)}",
            )
        self.report.images = images
        self.report.log(f"{where}, {len(samples)} windows")
        return samples

    def _files(self) -> Iterator[Path]:
        root = Path(self.data_root)
        if not self.inputs:
            yield from _images_below(root)
        for entry in self.inputs:
            path = root / entry
            if path.is_dir():
                yield from _images_below(path)
            elif path.is_file():
                yield path
            else:
                found = sorted(root.glob(entry)) if not Path(entry).is_absolute() else []
                if not found:
                    raise DataError("there is no such file or folder", where=path, fix="check inputs")
                yield from (file for file in found if file.is_file())

    def _windows(self, path: Path) -> Iterator[dict[str, Any]]:
        with RasterReader(path) as reader:
            height, width = reader.height, reader.width
            if max(height, width) <= self.window:
                yield dict(img_path=str(path))
                return
            valid = _valid_overview(reader)
        side = min(self.window, height, width)
        empty = 0
        for window in window_grid(height, width, side, min(self.overlap, side - 1)):
            if valid is not None and _share(valid, window, height, width) < self.min_valid:
                empty += 1
                continue
            yield dict(img_path=str(path), window=(window.left, window.top, side))
        example = Example(str(path), f"{empty} windows with less than {self.min_valid:.0%} valid pixels")
        self.report.note("windows without enough data", [path.name] * empty, example)


def _images_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files) if name.lower().endswith(SUFFIXES))


def _valid_overview(reader: RasterReader) -> np.ndarray | None:
    """Return which pixels of a small view of a scene hold data; ``None`` where all do."""
    if reader.nodata is None and reader.alpha_band is None:
        return None
    if reader.nodata is not None:  # from overviews, where the file has some
        valid = (reader.read_overview(_MASK_SIDE) != reader.nodata).any(axis=2)
    else:
        scale = min(1.0, _MASK_SIDE / max(reader.width, reader.height))
        size = (max(1, round(reader.width * scale)), max(1, round(reader.height * scale)))
        valid = reader.valid_mask(out_size=size)
    return None if valid.all() else valid


def _share(valid: np.ndarray, window: Window, height: int, width: int) -> float:
    """Return the share of valid pixels of a window, from the small view."""
    down, across = valid.shape[0] / height, valid.shape[1] / width
    top, left = int(window.top * down), int(window.left * across)
    bottom = max(top + 1, round((window.top + window.height) * down))
    right = max(left + 1, round((window.left + window.width) * across))
    return float(valid[top:bottom, left:right].mean())
