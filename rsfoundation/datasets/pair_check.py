"""Whether two dates belong together: size, coordinate system, pixel grid, and a shift of the content."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.samplers import spread
from rsfoundation.datasets.transforms.images import ImageLoader
from rsfoundation.io.rasters import RasterReader

Sample = dict[str, Any]
_THREADS = 4
_MOST = 2000  # pairs whose headers are read, spread over the data set; the loading step checks every pair
_MEASURED = 8  # pairs whose content is compared, spread likewise
_SIDE = 1024  # of the part of a pair that is compared, pixels
_GRID = 0.5  # pixels by which two grids may differ
_SHIFT = 3.0  # pixels of content; buildings seen from another angle move by less
_CERTAIN = 0.1  # from this response of the phase correlation on a shift is one


@dataclass(frozen=True)
class Shift:
    """Offset of the content of the second date from that of the first, in pixels.

    Attributes:
        right: Pixels.
        down: Pixels.
        response: How certain it is, 0 to 1; below 0.1 the dates have too little in common.
    """

    right: float
    down: float
    response: float

    @property
    def length(self) -> float:
        """Its length in pixels."""
        return float(np.hypot(self.right, self.down))


def check_pairs(
    samples: list[Sample], steps: Sequence[Any], report: DatasetReport, *, measure: bool = True
) -> list[Sample]:
    """Look at the headers of pairs, and at the content of a few.

    Pairs of different size, coordinate system, pixel grid or, where all bands are read, number of bands are
    errors of the report. A shift of the content is a warning: it is measured, not known.

    Args:
        samples: Entries with two files under ``img_path``.
        steps: The data set's pipeline; without a loading step nothing is looked at.
        report: Takes what is found.
        measure: Whether shifts are measured: `rsf check` measures those of all pairs itself.

    Returns:
        The entries without the wrong pairs.
    """
    loader = next((step for step in steps if isinstance(step, ImageLoader)), None)
    local = [sample for sample in samples if not any("://" in str(path) for path in sample["img_path"])]
    if loader is None or not local:
        return samples
    all_bands = loader.loading.bands == "all"
    wrong = set()
    looked_at = spread(local, _MOST)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda sample: _mismatch(sample["img_path"], all_bands), looked_at)
        for sample, mismatch in zip(looked_at, found, strict=True):
            if mismatch is not None:
                kind, error = mismatch
                report.error(kind, error, sample["img_path"][0])
                wrong.add(id(sample))
    matching = [sample for sample in local if id(sample) not in wrong]
    if measure:
        _warn_of_shifts(spread(matching, _MEASURED), loader, report)
    return [sample for sample in samples if id(sample) not in wrong]


def measure_shift(first: np.ndarray, second: np.ndarray) -> Shift:
    """Measure the offset of the content of the second date from that of the first.

    Phase correlation of edges: they stay where seasons and sensors change the colours.

    Args:
        first: ``(H, W)`` or ``(H, W, C)``, any number of bands.
        second: Of the same height and width.
    """
    before, after = _edges(first), _edges(second)
    window = cv2.createHanningWindow((before.shape[1], before.shape[0]), cv2.CV_32F)
    (right, down), response = cv2.phaseCorrelate(before, after, window)
    return Shift(right, down, max(0.0, response))


def _edges(image: np.ndarray) -> np.ndarray:
    grey = np.atleast_3d(image).mean(axis=2, dtype=np.float32)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = np.minimum(strength, np.percentile(strength, 98))  # one bright roof must not decide alone
    return (strength - strength.mean()).astype(np.float32)


def _mismatch(paths: Sequence[str], all_bands: bool) -> tuple[str, DataError] | None:
    """Return kind and error of a pair whose dates do not match; broken files are reported elsewhere."""
    try:
        with RasterReader(paths[0]) as first, RasterReader(paths[1]) as second:
            return compare_dates(first, second, all_bands)
    except DataError:
        return None


def compare_dates(
    first: RasterReader, second: RasterReader, all_bands: bool = False
) -> tuple[str, DataError] | None:
    """Compare the headers of two dates.

    Args:
        first: The first date.
        second: The second date.
        all_bands: Whether the number of bands must be equal.

    Returns:
        Kind and error of the first difference; ``None`` where the dates match.
    """
    where = f"{first.path} and {second.path}"
    sizes = [f"{date.width}x{date.height}" for date in (first, second)]
    if sizes[0] != sizes[1]:
        what = f"the dates of one pair differ in size: {sizes[0]} and {sizes[1]} pixels"
        fix = "bring both dates onto one pixel grid: gdalwarp -t_srs ... -te ... -ts WIDTH HEIGHT"
        return "pairs of different size", DataError(what, where=where, fix=fix)
    if all_bands and first.count != second.count:
        what = f"the dates of one pair differ in bands: {first.count} and {second.count}"
        fix = "choose bands that both dates have: image_loading=dict(bands=(1, 2, 3)) in the config"
        return "pairs of different bands", DataError(what, where=where, fix=fix)
    one, other = first.georeference, second.georeference
    if not (one.is_referenced and other.is_referenced):
        return None
    if one.crs != other.crs:
        what = f"the dates of one pair have different coordinate systems: {one.crs} and {other.crs}"
        fix = f"gdalwarp -t_srs '{one.crs}' brings the second date into that of the first"
        return "pairs in different coordinate systems", DataError(what, where=where, fix=fix)
    corners = [(0, 0), (first.width, first.height)]
    apart = np.abs(one.crs_to_pixel_edges(other.pixel_edges_to_crs(corners)) - corners).max()
    if apart > _GRID:
        right, down = (one.crs_to_pixel_edges(other.pixel_edges_to_crs(corners)) - corners)[0]
        what = (
            f"the dates of one pair are on different pixel grids: the second is {right:+.1f} pixels to the "
            f"right of and {down:+.1f} below the first, and up to {apart:.1f} apart"
        )
        fix = "bring both dates onto one pixel grid: gdalwarp -te XMIN YMIN XMAX YMAX -tr XRES YRES"
        return "pairs on different pixel grids", DataError(what, where=where, fix=fix)
    return None


def _warn_of_shifts(samples: Sequence[Sample], loader: ImageLoader, report: DatasetReport) -> None:
    measured: list[tuple[Shift, str]] = []
    for sample in samples:
        try:
            dates = [_middle(str(path), loader) for path in sample["img_path"]]
        except DataError:  # reported where files are checked
            continue
        if all(date is not None for date in dates) and dates[0].shape[:2] == dates[1].shape[:2]:
            measured.append((measure_shift(*dates), str(sample["img_path"][0])))
    far = [item for item in measured if item[0].response >= _CERTAIN and item[0].length >= _SHIFT]
    if far:
        shift, path = max(far, key=lambda item: item[0].length)
        report.warn(
            f"the dates seem shifted in {len(far)} of {len(measured)} pairs that were compared, most in "
            f"{Path(path).name}: the second date is {shift.right:+.1f} pixels to the right and "
            f"{shift.down:+.1f} below; register the dates, or every edge counts as change"
        )


def _middle(path: str, loader: ImageLoader) -> Any:
    """Read the middle of an image."""
    with RasterReader(path) as reader:
        width, height = reader.width, reader.height
    side = min(width, height, _SIDE)
    return loader.read(path, ((width - side) // 2, (height - side) // 2, side))
