"""The check of a data set: reads every file once, and returns everything that looks wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import write_json
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import DatasetReport, Example
from rsfoundation.datasets.label_check import CheckSettings, check_classes
from rsfoundation.datasets.oriented.annotations import UNREADABLE_IMAGES
from rsfoundation.prepare.check.boxes import BoxStatistics, box_statistics
from rsfoundation.prepare.check.images import ImageMeasures, measure_image
from rsfoundation.prepare.check.items import Item, SplitData, read_splits
from rsfoundation.prepare.check.leakage import Twin, find_leakage
from rsfoundation.prepare.check.maps import (
    OTHER_SIZE,
    MapMeasures,
    PairMeasures,
    check_maps,
    check_order,
    check_pairs,
    ignored_share,
    measure_pair,
)

Value = TypeVar("Value", bound=Hashable)
OTHER_SIZES = "pairs of different size"  # kind in reports, as of the data sets
BETWEEN = "between splits"  # name of the report of all splits together
_PLAIN = 0.004  # contrast below which an image shows nothing
_RARE = 100  # times that the most frequent class occurs as often as a rare one


@dataclass(frozen=True)
class BandStatistics:
    """Values of one band over all images of a split.

    Attributes:
        mean: Mean of the images' means, each with the weight of its pixels.
        std: Standard deviation over all pixels.
        low: Least value.
        high: Largest value.
        constant: Images in which the band has one value.
    """

    mean: float
    std: float
    low: float
    high: float
    constant: int


@dataclass
class SplitCheck:
    """What a check found in one split.

    Attributes:
        data: The split; its ``report`` has the problems.
        boxes: Statistics of its boxes.
        pixels: Pixels of each class in its label maps.
        ignored: Share of their pixels that are ignored.
        bands: Statistics of each band; empty where images have different bands.
        sizes: Images of each size, the most frequent first.
        dtypes: Images of each dtype and count of bands.
    """

    data: SplitData
    boxes: BoxStatistics | None = None
    pixels: dict[str, int] = field(default_factory=dict)
    ignored: float = 0.0
    bands: list[BandStatistics] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, int] = field(default_factory=dict)


@dataclass
class DataCheck:
    """The result of a check.

    Attributes:
        source: What was checked.
        splits: Each split.
        between: Problems between splits, and all that is judged over all of them.
        twins: Pairs of images of each kind of leakage.
        swapped: Pairs of dates that look swapped.
    """

    source: str
    splits: list[SplitCheck]
    between: DatasetReport
    twins: Mapping[str, Sequence[Twin]] = field(default_factory=dict)
    swapped: Sequence[Item] = ()

    @property
    def reports(self) -> dict[str, DatasetReport]:
        """The report of each split, and the one between splits."""
        return {**{one.data.name: one.data.report for one in self.splits}, BETWEEN: self.between}

    @property
    def errors(self) -> int:
        """Cases that cannot be trained on, or that make a test worthless."""
        return sum(sum(report.errors.values()) for report in self.reports.values())

    @property
    def warnings(self) -> int:
        """All other cases."""
        cases = sum(sum(report.counts.values()) for report in self.reports.values())
        return cases - self.errors + sum(len(report.warnings) for report in self.reports.values())

    def describe(self) -> str:
        """Return the outcome on one line."""
        images = sum(len(one.data.items) for one in self.splits)
        kinds = {kind: count for report in self.reports.values() for kind, count in report.counts.items()}
        named = "; ".join(f"{count} {kind}" for kind, count in list(kinds.items())[:4])
        more = f"; {len(kinds) - 4} more kinds" if len(kinds) > 4 else ""
        outcome = f"{self.errors} errors, {self.warnings} warnings"
        return (
            f"{images} samples in {len(self.splits)} splits: {outcome}{f' ({named}{more})' if kinds else ''}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        splits = {
            one.data.name: dict(
                report=one.data.report.to_json(),
                classes=list(one.data.classes),
                boxes=asdict(one.boxes) if one.boxes else None,
                pixels=one.pixels,
                ignored=one.ignored,
                bands=[asdict(band) for band in one.bands],
                sizes=one.sizes,
                dtypes=one.dtypes,
            )
            for one in self.splits
        }
        twins = {
            kind: [
                dict(
                    files=[*twin.one.images, *twin.other.images],
                    splits=[twin.one.split, twin.other.split],
                    what=twin.what,
                )
                for twin in found
            ]
            for kind, found in self.twins.items()
        }
        return dict(
            source=self.source, errors=self.errors, warnings=self.warnings, splits=splits,
            between=self.between.to_json(), twins=twins,
        )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write :meth:`to_json` to a file."""
        write_json(path, self.to_json())


def check_data(source: str | Path, overrides: Sequence[str] = (), *, workers: int | None = None) -> DataCheck:
    """Check the data of a config, or a folder in a known layout, before training.

    Every image and label map is decoded once. Nothing is left in memory of an image but a few kilobytes.

    Args:
        source: A config (path or shipped name), or a data folder.
        overrides: Changes of the config.
        workers: Threads; one per core when not given.

    Raises:
        RSFError: There is no such config or folder, or its layout is not known.
    """
    splits = read_splits(source, overrides)
    jobs = [(split, row) for split in splits for row in _first_uses(split)]
    found = run_jobs(_measure, jobs, workers=workers or os.cpu_count() or 1, title="reading images")
    measures: dict[str, ImageMeasures] = {}
    pairs: dict[str, dict[int, PairMeasures]] = {split.name: {} for split in splits}
    maps: dict[str, dict[int, MapMeasures]] = {split.name: {} for split in splits}
    for (split, row), (images, pair, label_map, problems) in zip(jobs, found, strict=True):
        measures.update({one.path: one for one in images})
        for kind, error, path in problems:
            split.report.error(kind, error, path)
        if pair is not None:
            pairs[split.name][row] = pair
        if label_map is not None:
            maps[split.name][row] = label_map
    between, twins = find_leakage([item for split in splits for item in split.items], measures)
    order = [(split.items[row], pair) for split in splits for row, pair in pairs[split.name].items()]
    swapped = check_order(order, between)
    _compare_classes(splits, maps, between)
    checks = [_finish(split, measures, pairs[split.name], maps[split.name]) for split in splits]
    return DataCheck(str(source), checks, between, twins, swapped)


Problem = tuple[str, DataError, str]
Measured = tuple[list[ImageMeasures], PairMeasures | None, MapMeasures | None, list[Problem]]


def _first_uses(split: SplitData) -> list[int]:
    """Return the rows of items whose files no earlier item has: virtual patches share files."""
    seen: dict[tuple[str, ...], int] = {}
    for row, item in enumerate(split.items):
        seen.setdefault((*item.images, item.label if split.reader else ""), row)
    return list(seen.values())


def _measure(job: tuple[SplitData, int]) -> Measured:
    """Decode the files of one item."""
    split, row = job
    item, images, greys, problems = split.items[row], [], [], list[Problem]()
    for path in item.images:
        try:
            measures, grey = measure_image(path)
        except DataError as error:
            problems.append((UNREADABLE_IMAGES, error, path))
            continue
        images.append(measures)
        greys.append(grey)
    pair = measure_pair(*greys) if len(greys) == 2 else None
    if len(images) == 2 and pair is None:
        sizes = " and ".join(f"{one.width} x {one.height}" for one in images)
        what, fix = f"the dates are of {sizes} px", "cut both to the same extent"
        problems.append((OTHER_SIZES, DataError(what, where=item.images[1], fix=fix), item.images[1]))
    label_map = _measure_map(split, item, images, problems)
    return images, pair, label_map, problems


def _measure_map(
    split: SplitData, item: Item, images: Sequence[ImageMeasures], problems: list[Problem]
) -> MapMeasures | None:
    try:
        found = split.label_map(item)
    except DataError as error:
        problems.append(("label maps that cannot be used", error, item.label))
        return None
    if found is None:
        return None
    labels, image = found
    patch = item.entry.get("window") is not None  # the reader has compared the sizes of the files
    if images and not patch and labels.shape != (images[0].height, images[0].width):
        height, width = labels.shape
        what = f"the label map is {width} x {height} px, its image {images[0].width} x {images[0].height}"
        problems.append(
            (OTHER_SIZE, DataError(what, where=item.label, fix="replace one of the two"), item.label)
        )
    counts = np.bincount(labels.reshape(-1), minlength=256)
    with_ignored = image if not image.coloured and 255 in image.used() else None
    if with_ignored is not None:
        with_ignored = type(image)(np.zeros((1, 1), np.uint8), image.path, image.kind)
    return MapMeasures(counts, image.palette, with_ignored)


def _finish(
    split: SplitData,
    measures: Mapping[str, ImageMeasures],
    pairs: Mapping[int, PairMeasures],
    maps: Mapping[int, MapMeasures],
) -> SplitCheck:
    """Judge a split from the measures of its files."""
    mine = [
        measures[path] for path in dict.fromkeys(p for i in split.items for p in i.images) if path in measures
    ]
    _check_images(split, mine)
    check_pairs(split, pairs)
    check_maps(split, maps)
    counts: NDArray[np.int64] = (
        np.sum([one.counts for one in maps.values()], axis=0) if maps else np.zeros(256, np.int64)
    )
    boxes = box_statistics(split, measures)
    if boxes is not None:
        split.report.objects = sum(boxes.classes.values())
    check = SplitCheck(
        split,
        boxes,
        {name: int(counts[index]) for index, name in enumerate(split.classes)} if maps else {},
        ignored_share(counts),
        _band_statistics(mine),
        _histogram(f"{one.width} x {one.height}" for one in mine),
        _histogram(f"{len(one.bands)} x {one.dtype}" for one in mine),
    )
    _check_balance(split, check)
    return check


def _check_images(split: SplitData, measures: Sequence[ImageMeasures]) -> None:
    """Note images of one value, bands of one value, and images of another kind than the others."""
    usual = next(iter(_histogram((len(one.bands), one.dtype) for one in measures)), None)
    for one in measures:
        name = Path(one.path).name
        kind = (len(one.bands), one.dtype)
        if kind != usual and usual is not None:
            what = f"{kind[0]} bands of {kind[1]}; most images have {usual[0]} of {usual[1]}"
            split.report.note(
                "images of other bands than most",
                [name],
                Example(one.path, what, "choose bands in image_loading"),
            )
        constant = one.constant_bands
        if len(constant) == len(one.bands):
            what = f"every pixel is {one.bands[0, 2]:g}"
            split.report.note("images of one value", [name], Example(one.path, what, "leave it out"))
        elif constant:
            what = f"band {', '.join(map(str, constant))} has one value"
            split.report.note(
                "images with a band of one value", [name], Example(one.path, what, "replace the file")
            )
        elif one.contrast < _PLAIN and one.dtype == "uint8":
            what = "hardly any contrast: fog, cloud, or a border without data"
            split.report.note("images without contrast", [name], Example(one.path, what, "look at it"))


def _band_statistics(measures: Sequence[ImageMeasures]) -> list[BandStatistics]:
    if not measures or len({len(one.bands) for one in measures}) > 1:
        return []
    weights = np.array([one.width * one.height for one in measures], dtype=np.float64)
    bands = np.stack([one.bands for one in measures])
    means = np.average(bands[..., 0], axis=0, weights=weights)
    squares = np.average(bands[..., 1] ** 2 + bands[..., 0] ** 2, axis=0, weights=weights)
    constant = (bands[..., 2] == bands[..., 3]).sum(axis=0)
    return [
        BandStatistics(float(m), float(np.sqrt(max(s - m**2, 0))), float(low), float(high), int(c))
        for m, s, low, high, c in zip(
            means, squares, bands[..., 2].min(0), bands[..., 3].max(0), constant, strict=True
        )
    ]


def _histogram(values: Iterable[Value]) -> dict[Value, int]:
    """Count equal values, the most frequent first."""
    return dict(Counter(values).most_common())


def _check_balance(split: SplitData, check: SplitCheck) -> None:
    """Warn of classes that are much rarer than the most frequent one, or absent."""
    counts = dict(check.boxes.classes) if check.boxes else check.pixels
    if not counts or not max(counts.values()):
        return
    most = max(counts.values())
    absent = [name for name, count in counts.items() if not count]
    rare = [f"{name} ({count})" for name, count in counts.items() if 0 < count * _RARE < most]
    unit = "objects" if check.boxes else "pixels"
    if absent and not any(warning.startswith("no object of") for warning in split.report.warnings):
        split.report.warn(f"no {unit} of {len(absent)} classes: {', '.join(absent)}")
    if rare:
        split.report.warn(
            f"classes with less than 1/{_RARE} of the {unit} of the most frequent one: {', '.join(rare)}"
        )


def _compare_classes(
    splits: Sequence[SplitData], maps: Mapping[str, Mapping[int, MapMeasures]], between: DatasetReport
) -> None:
    """Report label maps of ignored pixels, and classes that training never shows but another split has."""
    seen: dict[str, set[int]] = {}
    for split in splits:
        found = [(one.counts, one.has_ignored) for one in maps[split.name].values()]
        fix = "if 255 marks '{name}': label_map={{255: {index}}}, or for change format_seg_map='to_binary'"
        check_classes(found, CheckSettings(split.classes, fix, "count", False), split.report)
        labels = {int(label) for counts, _ in found for label in np.flatnonzero(counts[: len(split.classes)])}
        labels |= {int(label) for item in split.items for label in np.unique(item.labels)}
        seen[split.name] = labels
    first = splits[0]
    for other in splits[1:]:
        if first.name == "train" and first.classes and tuple(other.classes) == tuple(first.classes):
            new = [first.classes[label] for label in sorted(seen[other.name] - seen[first.name])]
            if new and seen[first.name]:
                between.warn(f"{other.name} has classes that train never shows: {', '.join(new)}")
