"""Mean, standard deviation and percentiles of each band of a data set, in one pass over its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.parallel import with_progress
from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import loading_of, use_image_loading
from rsfoundation.io.dota import IMAGE_SUFFIXES
from rsfoundation.io.rasters import RasterReader
from rsfoundation.prepare.check.images import blocks_of
from rsfoundation.prepare.check.items import read_splits

PERCENTILES = (1.0, 2.0, 50.0, 98.0, 99.0)
_SAMPLE = 2**20  # pixels that percentiles of other dtypes than 8 and 16 bit are taken from
_EXACT = {np.dtype(np.uint8): 0, np.dtype(np.uint16): 0, np.dtype(np.int16): 2**15, np.dtype(np.int8): 128}


@dataclass(frozen=True)
class BandSummary:
    """One band over all images.

    Attributes:
        name: Its name in the files, or its number.
        mean: Mean of the valid pixels.
        std: Their standard deviation.
        low: Least value.
        high: Largest value.
        percentiles: Value of each of :data:`PERCENTILES`.
        pixels: Valid pixels.
        dtype: Of the files.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    percentiles: dict[str, float]
    pixels: int
    dtype: str = "uint8"


class _Band:
    """Sums of one band: a histogram where the dtype has few values, else moments and a random sample."""

    def __init__(self, dtype: np.dtype) -> None:
        self.offset = _EXACT.get(dtype)
        self.counts = np.zeros(2**16 if self.offset is not None else 0, np.int64)
        self.count, self.mean, self.square = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf
        self.sample, self.keys = np.zeros(0), np.zeros(0)
        self.random = np.random.default_rng(0)

    def add(self, values: NDArray[np.generic]) -> None:
        if not len(values):
            return
        if self.offset is not None:
            self.counts += np.bincount(values.astype(np.int64) + self.offset, minlength=2**16)
            return
        numbers = values.astype(np.float64)
        mean, total = float(numbers.mean()), self.count + len(numbers)  # Chan's update of mean and squares
        self.square += (
            float(((numbers - mean) ** 2).sum()) + (mean - self.mean) ** 2 * self.count * len(numbers) / total
        )
        self.mean += (mean - self.mean) * len(numbers) / total
        self.count = total
        self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))
        keys = np.concatenate([self.keys, self.random.random(len(numbers))])  # the smallest keys stay
        sample = np.concatenate([self.sample, numbers])
        kept = np.argpartition(keys, _SAMPLE)[:_SAMPLE] if len(keys) > _SAMPLE else slice(None)
        self.sample, self.keys = sample[kept], keys[kept]

    def summary(self, name: str) -> BandSummary:
        if self.offset is None:
            if not self.count:
                return BandSummary(name, 0.0, 0.0, 0.0, 0.0, {}, 0)
            found = np.percentile(self.sample, PERCENTILES).tolist()
            std = float(np.sqrt(self.square / self.count))
            return BandSummary(name, self.mean, std, self.low, self.high, _named(found), self.count)
        total = int(self.counts.sum())
        if not total:
            return BandSummary(name, 0.0, 0.0, 0.0, 0.0, {}, 0)
        values = np.arange(len(self.counts)) - self.offset
        mean = float((values * self.counts).sum() / total)
        std = float(np.sqrt((self.counts * (values - mean) ** 2).sum() / total))
        used = values[self.counts > 0]
        ranks = np.ceil(np.array(PERCENTILES) / 100 * total).clip(1)
        found = values[np.searchsorted(np.cumsum(self.counts), ranks)].astype(float).tolist()
        return BandSummary(name, mean, std, float(used[0]), float(used[-1]), _named(found), total)


def _named(values: Sequence[float]) -> dict[str, float]:
    return {f"{percent:g}": value for percent, value in zip(PERCENTILES, values, strict=True)}


def band_statistics(
    source: str | Path, split: str | None = None, overrides: Sequence[str] = ()
) -> list[BandSummary]:
    """Read every image of a data set once, in blocks, and return the statistics of its bands.

    Pixels without data (nodata, masks, not a number) do not count. Percentiles of 8 and 16 bit are exact;
    of other dtypes they are those of a random million of pixels.

    Args:
        source: A config, a data folder in a known layout, or a folder of images.
        split: Name of a split; all when not given.
        overrides: Changes of the config.

    Raises:
        DataError: There is no image, one is broken, or their bands or dtypes differ.
    """
    paths = _images(source, split, overrides)
    bands: list[_Band] = []
    names: tuple[str, ...] = ()
    kind: tuple[int, str] | None = None
    for path in with_progress(paths, total=len(paths), title="reading images"):
        with RasterReader(path) as reader:
            found = (len(reader.bands), str(reader.dtype))
            if kind is None:
                kind, bands = found, [_Band(reader.dtype) for _ in reader.bands]
                names = tuple(reader.band_names[number - 1] or str(number) for number in reader.bands)
            if found != kind:
                what = f"{found[0]} bands of {found[1]}; the first image has {kind[0]} of {kind[1]}"
                raise DataError(what, where=path, fix="measure images of one kind: name a split or a folder")
            for window in blocks_of(reader):
                pixels, valid = reader.read(window), reader.valid_mask(window)
                for place, band in enumerate(bands):
                    band.add(pixels[..., place][valid])
    dtype = "" if kind is None else kind[1]
    return [replace(band.summary(name), dtype=dtype) for band, name in zip(bands, names, strict=True)]


def model_statistics(
    config: str | Path,
    stored: Sequence[BandSummary],
    split: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each band as the model of a config sees it.

    Those are the bands that ``image_loading`` chooses, red first, with its range as 0 to 255. Pixels without
    data do not count. Images are read again only where loading changes them.

    Args:
        config: Path or name of a config.
        stored: What :func:`band_statistics` found in the same images.
        split: Name of a split; all when not given.
        overrides: Changes of the config.

    Raises:
        DataError: There is no image, one is broken, lacks a band, or has values that need a range.
    """
    cfg = load_config(config, overrides)
    use_image_loading(cfg)
    loading = loading_of(cfg)
    every = loading.bands == "all" or (loading.bands is None and len(stored) == 3)
    if every and loading.pixel_range is None and not loading.grey and stored[0].dtype == "uint8":
        return [band.mean for band in stored], [band.std for band in stored]
    bands: list[_Band] = []
    paths = _images(config, split, overrides)
    for path in with_progress(paths, total=len(paths), title="reading images as the model does"):
        with loading.open(path) as image:
            for window in blocks_of(image.reader):
                pixels, valid = image.read(window), image.reader.valid_mask(window)
                if pixels.shape[2] in loading.blue_first:
                    pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
                bands = bands or [_Band(pixels.dtype) for _ in range(pixels.shape[2])]
                for place, band in enumerate(bands):
                    band.add(pixels[..., place][valid])
    found = [band.summary("") for band in bands]
    return [band.mean for band in found], [band.std for band in found]


def _images(source: str | Path, split: str | None, overrides: Sequence[str]) -> list[str]:
    folder = Path(source)
    if folder.is_dir() and any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
        return sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    splits = read_splits(source, overrides)
    chosen = [one for one in splits if split in (None, one.name)]
    paths = dict.fromkeys(path for one in chosen for item in one.items for path in item.images)
    if not paths:
        known = ", ".join(one.name for one in splits)
        raise DataError(
            f"no image of the split {split!r}; there are {known}", where=source, fix="--split train"
        )
    return list(paths)
