"""A check of the images and label maps of a data set before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport, Example, ReadingPolicy
from rsfoundation.datasets.samplers import spread
from rsfoundation.datasets.transforms.images import ImageLoader
from rsfoundation.datasets.transforms.pair_loading import MultiImgLoadAnnotations
from rsfoundation.datasets.transforms.segmentation import LoadSegmentationMask, size_error
from rsfoundation.io.georeference import grid_offset
from rsfoundation.io.label_images import LabelImage, is_tiff
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.io.rasters import RasterReader, image_size

Sample = dict[str, Any]
_PIXELS = 64e6  # that are decoded at the start, spread over the data set: a second or two
_LEAST = 2  # label maps that are read whatever their size
_THREADS = 4
_SAME_GRID = 0.01  # pixels by which the corners of image and mask may differ
LABEL_READERS = (LoadSegmentationMask, MultiImgLoadAnnotations)


@dataclass(frozen=True)
class CheckSettings:
    """How a data set is checked.

    Attributes:
        classes: Names of the classes.
        ignored_fix: The setting that gives the number 255 a class; may have ``{name}`` and ``{index}``.
        policy: ``fail`` stops at broken files; ``skip`` reads every file and leaves broken ones out;
            ``count`` looks for missing files only: `rsf check` reads the others itself.
        training: Whether classes that do not occur are worth a warning.
    """

    classes: Sequence[str]
    ignored_fix: str
    policy: ReadingPolicy
    training: bool


def check_samples(
    samples: list[Sample], steps: Sequence[Any], checks: CheckSettings, report: DatasetReport
) -> list[Sample]:
    """Check the files of a data set, and the numbers in its label maps.

    Only files that the pipeline reads are checked. Label maps are read from all over the data set until
    their pixels reach a limit; under ``skip`` all of them are.

    Args:
        samples: Entries with ``img_path`` and, where there are labels, ``seg_map_path``.
        steps: The data set's pipeline.
        checks: Classes and policy.
        report: Takes the problems.

    Returns:
        The entries; under ``skip`` less those that are broken.

    Raises:
        DataError: Under ``fail``, files are missing or broken, labels are of no class, or all labels but
            one class are the ignored number.
    """
    loader = next((step for step in steps if isinstance(step, ImageLoader)), None)
    reader = next((step for step in steps if isinstance(step, LABEL_READERS)), None)
    broken = _missing(samples, loader, reader, report)
    found: list[tuple[Sample, np.ndarray | DataError, LabelImage | None]] = []
    if reader is not None and checks.policy != "count":
        labelled = [s for s in samples if "seg_map_path" in s and id(s) not in broken]
        labelled = labelled if checks.policy == "skip" else _spread(labelled)
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(partial(read_labels, reader), labelled))
    for sample, labels, _ in found:
        if isinstance(labels, DataError):
            report.error("label maps that cannot be used", labels, sample["seg_map_path"])
            broken.add(id(sample))
    if loader is not None and checks.policy != "count":
        broken |= _unreadable(samples, loader, checks.policy, broken, report)
        if loader.loading.bands == "all":
            broken |= _with_other_bands([one for one in samples if id(one) not in broken], report)
    report.enforce(checks.policy)
    read = [(sample, labels, image) for sample, labels, image in found if isinstance(labels, np.ndarray)]
    check_classes([(labels, image) for _, labels, image in read], checks, report)
    _note_ignored([(sample, labels) for sample, labels, _ in read], checks, report)
    report.enforce(checks.policy)
    kept = [sample for sample in samples if id(sample) not in broken]
    report.images = len(kept)
    if not kept:
        raise DataError(
            f"no image is left: left out {report.describe()}", fix="check data_root and data_prefix"
        )
    return kept


def _missing(samples: list[Sample], loader: Any, reader: Any, report: DatasetReport) -> set[int]:
    """Count files that do not exist; return the entries they belong to."""
    gone = set()
    for sample in samples:
        wanted: dict[str, list[str]] = {"images": _images(sample) if loader is not None else []}
        if reader is not None and "seg_map_path" in sample:
            wanted["label maps"] = [sample["seg_map_path"]]
        for kind, paths in wanted.items():
            for path in paths:
                if "://" not in path and not Path(path).is_file():
                    error = DataError(
                        f"the {kind.removesuffix('s')} does not exist",
                        where=path,
                        fix="check data_root, data_prefix and the suffixes of images and label maps",
                    )
                    report.error(f"missing {kind}", error, path)
                    gone.add(id(sample))
    return gone


def _images(sample: Sample) -> list[str]:
    paths = sample["img_path"]
    return list(paths) if isinstance(paths, (list, tuple)) else [paths]


def _spread(samples: list[Sample]) -> list[Sample]:
    """Return entries from all over the list whose label maps have so many pixels together."""
    if not samples:
        return samples
    try:
        width, height = image_size(samples[0]["seg_map_path"])
    except DataError:
        return samples[:1]  # read, and reported
    return spread(samples, max(_LEAST, int(_PIXELS / (width * height))))


def read_labels(reader: Any, sample: Sample) -> tuple[Sample, np.ndarray | DataError, LabelImage | None]:
    """Count the labels of one label map.

    Args:
        reader: The loading step of the pipeline.
        sample: The entry.

    Returns:
        The entry; pixels ``(256,)`` of each label, or the error; and the map where it has the number 255.
    """
    try:
        labels, image = reader.labels({**sample, "seg_fields": []})
        if isinstance(reader, LoadSegmentationMask):
            _require_one_grid(sample["img_path"], image)
    except DataError as error:
        return sample, error, None
    counts = np.bincount(labels.reshape(-1), minlength=IGNORED + 1)
    has_ignored_number = bool(counts[IGNORED]) and not image.coloured and IGNORED in image.used()
    return sample, counts, image if has_ignored_number else None


def _require_one_grid(path: str, mask: LabelImage) -> None:
    """Check that a mask has the size of its image and, where both have coordinates, its place.

    Raises:
        DataError: They differ.
    """
    if "://" in path:
        return
    height, width = mask.values.shape[:2]
    with RasterReader(path) as image:
        if (image.width, image.height) != (width, height):
            raise size_error(mask.path, (width, height), (image.width, image.height))
        if not (is_tiff(path) and is_tiff(mask.path)):
            return
        own = image.georeference
    with RasterReader(mask.path) as labels:
        other = labels.georeference
    fix = f"warp the mask onto the grid of {path} by the nearest pixel: gdalwarp -r near -te ... -tr ..."
    if own.crs is not None and other.crs is not None and own.crs != other.crs:
        raise DataError(
            f"the mask is in another CRS than its image: {other.crs[:40]}, the image is in {own.crs[:40]}",
            where=mask.path,
            fix=fix,
        )
    offset = grid_offset(own, other, width, height)
    if offset is not None and np.abs(offset).max() > _SAME_GRID:
        raise DataError(
            f"the mask is not at the place of its image: up to {np.abs(offset).max():.6g} pixels apart",
            where=mask.path,
            fix=fix,
        )


def _with_other_bands(samples: Sequence[Sample], report: DatasetReport) -> set[int]:
    """Report images that have another number of bands than most; return the entries of those."""
    files = [path for sample in samples for path in _images(sample)[:1]]

    def bands(path: str) -> int:
        if "://" in path:
            return 0
        with RasterReader(path) as reader:
            return reader.count

    with ThreadPoolExecutor(_THREADS) as pool:
        counts = list(pool.map(bands, files))
    usual = max(set(counts), key=counts.count, default=0)
    found = set()
    for sample, path, count in zip(samples, files, counts, strict=True):
        if count not in (usual, 0):
            error = DataError(
                f"the image has {count} bands, {counts.count(usual)} others have {usual}",
                where=path,
                fix="name the bands that all images have: image_loading=dict(bands=(1, 2, 3))",
            )
            report.error("images with another number of bands", error, path)
            found.add(id(sample))
    return found


def _note_ignored(
    read: Sequence[tuple[Sample, np.ndarray]], checks: CheckSettings, report: DatasetReport
) -> None:
    """Report label maps without any counted pixel, and a zero label that may be a class after all."""
    empty = [sample["seg_map_path"] for sample, counts in read if not counts[:IGNORED].any()]
    if empty:
        what = "every pixel is ignored; the image teaches nothing and is not counted at test"
        report.note("label maps that are ignored everywhere", empty, Example(empty[0], what))
    if not read or not all(sample.get("reduce_zero_label") for sample, _ in read):
        return
    total = np.sum([counts for _, counts in read], axis=0)
    last = len(checks.classes) - 1
    if total[IGNORED] and not total[last] and total[:last].all():
        share = total[IGNORED] / total.sum()
        report.warn(
            f"reduce_zero_label is set, {share:.0%} of the pixels that were read are ignored, and the last "
            f"class '{checks.classes[last]}' occurs nowhere: where 0 is the first class, set "
            "reduce_zero_label=False in the data set"
        )


def _unreadable(
    samples: list[Sample], loader: ImageLoader, policy: ReadingPolicy, broken: set[int], report: DatasetReport
) -> set[int]:
    """Open the first image, or under ``skip`` decode all; return the entries of those that are broken."""
    found = set()
    chosen = [sample for sample in samples if id(sample) not in broken]
    work: Callable[[str], Any] = loader.loading.read
    if policy == "fail":
        chosen, work = chosen[:1], lambda path: loader.loading.open(path).close()

    def problem(sample: Sample) -> DataError | None:
        try:
            for path in _images(sample):
                if "://" not in path:
                    work(path)
        except DataError as error:
            return error
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        for sample, error in zip(chosen, pool.map(problem, chosen), strict=True):
            if error is not None:
                report.error("unreadable images", error, error.where or _images(sample)[0])
                found.add(id(sample))
    return found


def check_classes(
    found: Sequence[tuple[np.ndarray, LabelImage | None]], checks: CheckSettings, report: DatasetReport
) -> None:
    """Report classes that occur in no label map, and 255 where it takes the place of one.

    Args:
        found: Pixels of each label of every map, and the maps that have the number 255.
        checks: Names of the classes.
        report: Takes the problems.
    """
    if not found:
        return
    counts = np.sum([labels for labels, _ in found], axis=0)
    absent = [name for name, count in zip(checks.classes, counts, strict=False) if not count]
    if not absent:
        return
    named, maps = ", ".join(f"'{name}'" for name in absent), len(found)
    with_255 = [image for _, image in found if image is not None]
    if with_255 and len(absent) >= len(checks.classes) - 1 >= 1:
        seen = [name for name in checks.classes if name not in absent]
        error = DataError(
            f"{named} {'occurs' if len(absent) == 1 else 'occur'} in none of {maps} label maps: they hold "
            f"{f'{seen[0]!r} and ' if seen else 'only '}the number 255, which is ignored",
            where=with_255[0].path.parent,
            fix=checks.ignored_fix.format(name=absent[0], index=list(checks.classes).index(absent[0])),
        )
        report.error("label maps of one class and ignored pixels", error, with_255[0].path)
    elif checks.training:
        report.warn(f"{named} in none of {maps} label maps that were read")
