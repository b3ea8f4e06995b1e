"""Reading masks and change labels: the meaning of values and colours of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io.label_maps import IGNORED, reduce_zero
from rsfoundation.io.raster_formats import Palette
from rsfoundation.io.rasters import RasterReader

_TIFF_SUFFIXES = (".tif", ".tiff")
_VALUES, _COLOURS = ("1", "L", "LA", "P", "PA", "I", "I;16", "I;16B", "F"), ("RGB", "RGBA")  # Pillow's modes
_LOSSY = ("JPEG", "MPO")
CHANGED_FROM = 128  # grey value from which an 8-bit label counts as changed; JPEG labels need the middle
_MOST_NAMED = 8  # values that a message lists
NEAR = 48.0  # values of distance at which a colour counts as one of the palette, where that is asked for
_BLOCK = 1 << 20  # pixels of a coloured mask that are decoded at a time


@dataclass(frozen=True)
class LabelImage:
    """A mask as its file holds it.

    Attributes:
        values: Numbers ``(H, W)``, or RGB colours ``(H, W, 3)`` uint8.
        path: The file.
        kind: Pillow's mode of its pixels, or the dtype of a TIFF, for messages.
        palette: The colour of each number, where the file has a palette.
        lossy: Whether it is compressed with loss, so that values are only near those written.
    """

    values: np.ndarray
    path: Path
    kind: str
    palette: Palette | None = None
    lossy: bool = False

    @property
    def coloured(self) -> bool:
        """Whether it holds colours."""
        return self.values.ndim == 3

    def used(self) -> list[int]:
        """Return the numbers that occur, in order."""
        return _distinct(self.values)

    def part(self, window: Window) -> LabelImage:
        """Return a window of the mask; what is beyond it is left out."""
        rows = slice(max(window.top, 0), window.top + window.height)
        return replace(self, values=self.values[rows, max(window.left, 0) : window.left + window.width])


def is_tiff(path: str | Path) -> bool:
    """Return whether a mask is a TIFF, of which a window is read without the rest."""
    return Path(path).suffix.lower() in _TIFF_SUFFIXES


def read_label_image(path: str | Path, window: Window | None = None) -> LabelImage:
    """Read a mask: of one band numbers, of three or more the first three as colours; alpha is left out.

    The file's own missing pixels (nodata value or mask band of a TIFF) become 255 where it holds numbers.

    Args:
        path: The file.
        window: The part to read; what is beyond the mask is left out.

    Raises:
        DataError: The file is missing or unreadable, or its numbers are not whole.
    """
    file = Path(path)
    if is_tiff(file):
        found = _read_tiff(file, window)
    else:
        found = _read_plain(file)
        found = found if window is None else found.part(window)
    if np.issubdtype(found.values.dtype, np.floating):
        whole = np.rint(found.values)
        odd = ~np.isclose(found.values, whole)  # NaN is odd, too
        if odd.any():
            raise DataError(
                f"the mask holds {found.values[odd][0]:g}; expected whole numbers",
                where=file,
                fix="write class indices: 0, 1, 2 ... and 255 for ignored pixels",
            )
        found = LabelImage(whole.astype(np.int64), file, found.kind)
    return found


def _read_tiff(file: Path, window: Window | None) -> LabelImage:
    with RasterReader(file) as raster:
        bands = raster.bands
        raster.bands = bands[:3] if len(bands) >= 3 else bands[:1]
        values = raster.read(window)
        kind, palette = str(raster.dtype), raster.palette
        if values.shape[2] == 1 and palette is None:
            values = _ignore_missing(raster, values, window)
    return LabelImage(values if values.shape[2] == 3 else values[..., 0], file, kind, palette)


def _ignore_missing(raster: RasterReader, values: np.ndarray, window: Window | None) -> np.ndarray:
    """Return numbers ``(H, W, 1)`` with 255 where the file declares that there is none."""
    missing = ~raster.valid_mask(window)
    nan_is_declared = raster.nodata is not None and np.isnan(raster.nodata)
    if np.issubdtype(values.dtype, np.floating) and not nan_is_declared:
        missing &= ~np.isnan(values[..., 0])  # an error of the caller
    if not missing.any():
        return values
    kind = values.dtype if np.can_cast(np.uint8, values.dtype) else np.dtype(np.int64)  # int8 has no 255
    return np.where(missing[..., None], IGNORED, values).astype(kind)


def _read_plain(file: Path) -> LabelImage:
    try:
        with Image.open(file) as picture:
            values, mode, lossy = np.asarray(picture), picture.mode, picture.format in _LOSSY
            palette = _palette_of(picture) if mode in ("P", "PA") else None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"the mask cannot be read: {error}", where=file, fix="replace the file") from error
    if mode in _COLOURS:
        return LabelImage(values[..., :3], file, mode, lossy=lossy)
    if mode not in _VALUES:
        raise DataError(
            f"the mask has pixels of kind {mode}; known are {', '.join((*_VALUES, *_COLOURS))}",
            where=file,
            fix="save it as a PNG of indices or colours",
        )
    values = values[..., 0] if values.ndim == 3 else values
    return LabelImage(values.astype(np.uint8) if mode == "1" else values, file, mode, palette, lossy)


def _palette_of(picture: Any) -> Palette:
    flat = picture.getpalette("RGB") or []
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3))


def decode_mask(
    image: LabelImage,
    palette: Palette,
    *,
    reduce_zero_label: bool = False,
    label_map: Mapping[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Turn a mask into class indices.

    Colours are those of the data set's palette. Numbers are class indices, and 255 is ignored; where the
    file has a palette whose used colours all are colours of the data set, they are read by colour.

    Args:
        image: The mask.
        palette: Colour of class 0, 1, ...
        reduce_zero_label: Number 0 is ignored and 1 is class 0; colours are not changed.
        label_map: Replaces numbers of the file (number -> class) before anything else; those it does not
            name stay.

    Returns:
        Labels ``(H, W)`` uint8, 255 where ignored; and where they are of no class, booleans ``(H, W)``.
    """
    if image.coloured:
        labels = decode_colours(image.values, palette)
        return labels, labels == IGNORED
    if image.palette is not None and not label_map:
        colours = [image.palette[number] if number < len(image.palette) else None for number in image.used()]
        if all(colour in palette for colour in colours):
            table = np.array([palette.index(c) if c in palette else IGNORED for c in image.palette], np.uint8)
            return table[image.values], np.zeros(image.values.shape, np.bool_)
    by_table = image.values.dtype == np.uint8  # the rules once for each number, not for each pixel
    numbers = np.arange(256) if by_table else image.values.astype(np.int64)
    mapped = numbers.copy()
    for old, new in (label_map or {}).items():
        mapped[numbers == int(old)] = int(new)
    beyond = (mapped < 0) | (mapped > IGNORED)
    labels = np.where(beyond, IGNORED, mapped).astype(np.uint8)
    if reduce_zero_label:
        labels = reduce_zero(labels)
    bad = beyond | ((labels >= len(palette)) & (labels != IGNORED))
    labels[bad] = IGNORED
    return (labels[image.values], bad[image.values]) if by_table else (labels, bad)


def decode_change(image: LabelImage) -> np.ndarray:
    """Turn a change label into 0 and 1, whichever way it was written.

    Understood are 0 and 1, 0 and 255 (grey from 128 on, as JPEG needs), whole floats, and colours on black.

    Returns:
        ``(H, W)`` uint8.

    Raises:
        DataError: The values are none of these.
    """
    values = image.values
    numbers = image.used() if image.palette is not None else [0]
    if image.palette is not None and numbers != [0] and numbers[-1] < len(image.palette):
        used = {image.palette[number] for number in numbers}
        if len(used) == len(numbers):  # a palette of one colour tells nothing apart
            if len(used) > 1 and (0, 0, 0) not in used:
                raise _unknown_change(image, sorted(used))
            values = np.array(image.palette, np.uint8)[values]
    if values.ndim == 3:
        grey = (values[..., 0] == values[..., 1]).all() and (values[..., 1] == values[..., 2]).all()
        if not grey:
            return (values.max(axis=2) >= (CHANGED_FROM if image.lossy else 1)).astype(np.uint8)
        values = values[..., 0]
    least, most = int(values.min()), int(values.max())
    if image.lossy or most >= CHANGED_FROM:
        found = set() if image.lossy else set(_distinct(values))
        if 1 in found and found <= {0, 1, IGNORED}:
            raise _unknown_change(image, sorted(found))
        return (values >= CHANGED_FROM).astype(np.uint8)
    if least < 0 or most > 1:
        raise _unknown_change(image, _distinct(values))
    return values.astype(np.uint8)


def _unknown_change(image: LabelImage, found: Sequence[Any]) -> DataError:
    return DataError(
        f"the change label holds {_listed(found)}; expected 0 and 1, 0 and 255, or colours on black",
        where=image.path,
        fix="for labels of class indices, 255 ignored: format_seg_map=None in the data set",
    )


def as_palette(colours: Sequence[Sequence[int]]) -> Palette:
    """Return colours as a hashable palette."""
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def decode_colours(mask: np.ndarray, palette: Palette) -> np.ndarray:
    """Turn a colour-coded mask into class indices; colours off the palette become 255.

    Args:
        mask: RGB ``uint8`` ``(H, W, 3)``.
        palette: Colour of class 0, 1, ...; at most 255.

    Returns:
        ``(H, W)`` uint8.
    """
    labels = np.empty(mask.shape[:2], np.uint8)
    rows = max(1, _BLOCK // mask.shape[1])
    for start in range(0, len(mask), rows):  # the codes of a whole mask take many times its size
        codes = _codes(mask[start : start + rows])
        labels[start : start + rows] = _table(palette)[codes]
    return labels


def _codes(mask: np.ndarray) -> np.ndarray:
    """Return colours ``(..., 3)`` as one number each."""
    channels = mask.astype(np.int32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


def nearest_colours(mask: np.ndarray, palette: Palette, tolerance: float) -> np.ndarray:
    """Turn colours into the class of the nearest colour of a palette, as far as one is near.

    JPEG masks and some releases have colours that are off by a few values.

    Args:
        mask: RGB ``uint8`` ``(N, 3)``.
        palette: Colour of class 0, 1, ...
        tolerance: Largest Euclidean distance, in values; a colour between two classes takes the nearer one,
            and the first of two that are equally near.

    Returns:
        ``(N,)`` uint8, 255 where no colour is near.
    """
    colours, inverse = np.unique(_codes(mask), return_inverse=True)
    apart = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.float32)
    distance = np.linalg.norm(apart[:, None] - np.asarray(palette, np.float32)[None], axis=2)
    best = distance.argmin(axis=1)
    found = np.where(distance[np.arange(len(best)), best] <= tolerance, best, IGNORED).astype(np.uint8)
    return found[inverse.reshape(-1)]


@lru_cache(maxsize=4)
def _table(palette: Palette) -> np.ndarray:
    """Index of every 24-bit colour: 16 MiB, but one look-up per pixel."""
    table = np.full(1 << 24, IGNORED, dtype=np.uint8)
    for index, (red, green, blue) in enumerate(palette):
        table[red << 16 | green << 8 | blue] = index
    return table


def unknown_label_error(
    image: LabelImage, bad: np.ndarray, palette: Palette, reduce_zero_label: bool = False
) -> DataError:
    """Describe the pixels of a mask that are of no class, with the setting that reads them.

    Args:
        image: The mask.
        bad: Where they are, booleans ``(H, W)``.
        palette: Colour of each class.
        reduce_zero_label: As for :func:`decode_mask`.
    """
    row, column = np.argwhere(bad)[0]
    first = image.values[row, column]
    named = tuple(first.tolist()) if image.coloured else first.item()
    last = len(palette) - (0 if reduce_zero_label else 1)
    known = _listed(palette) if image.coloured else f"0..{last} and {IGNORED}"
    kind = f" (pixels of kind {image.kind})" if not image.coloured else ""
    return DataError(
        f"{int(bad.sum())} pixels of the mask carry no known label, first: {named} "
        f"at column {column}, row {row}; known are {known}{kind}",
        where=image.path,
        fix=_fix_of_unknown(image, bad, palette, reduce_zero_label),
    )


def _fix_of_unknown(image: LabelImage, bad: np.ndarray, palette: Palette, reduce_zero_label: bool) -> str:
    otherwise = "or ignore them: LoadSegmentationMask(off_palette='ignore')"
    if image.coloured:
        channels = np.unique(image.values.reshape(-1, 3)[bad.reshape(-1)], axis=0)
        if (channels == channels[:, :1]).all() and channels.max() < len(palette):
            return "the mask holds indices in three equal channels: save it with one channel"
        near = nearest_colours(channels, palette, NEAR)
        if (near != IGNORED).all():
            return "colours are off by a few values: LoadSegmentationMask(off_palette='nearest')"
        return f"set the colours of the data set, metainfo=dict(palette=[...]), {otherwise}"
    unknown, used = np.unique(image.values[bad]).tolist(), image.used()
    if unknown == [len(palette)] and not reduce_zero_label:
        return "labels count from 1 and 0 is ignored: reduce_zero_label=True in the data set"
    if len(palette) == 2 and len(unknown) == 1 and set(used) <= {0, *unknown}:
        return f"{unknown[0]} is the second class: label_map={{{unknown[0]}: 1}} in the data set"
    return (
        f"name every class in metainfo=dict(classes=(...)), or give the numbers a class: label_map="
        f"{{{unknown[0]}: CLASS}} in the data set, {otherwise}"
    )


def _distinct(values: np.ndarray) -> list[int]:
    if values.dtype == np.uint8:  # without sorting
        return np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).tolist()
    return np.unique(values).tolist()


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:_MOST_NAMED]))
    return shown + (f" and {len(values) - _MOST_NAMED} more" if len(values) > _MOST_NAMED else "")
