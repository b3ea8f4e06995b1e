"""How image files become the arrays that a model takes: bands, value range, colour order.

One :class:`ImageLoading` serves training, test and prediction, so that all see the same numbers.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.io.raster_formats import reordered
from rsfoundation.io.rasters import DECODE_LIMIT, RasterReader, Size

Bands = tuple[int | str, ...]
PADDING = (104, 116, 124)  # BGR; the value of DOTA's and mmrotate's tools
_ROWS = 128  # rows of a strip that are read at once
_MOST_OPEN = 64  # files, far below what systems allow a process
_SHIFTS = {"uint8": 0, "uint16": 8, "int16": 7}  # from the whole range of a type to 8 bit
_SAMPLES, _SAMPLE_SIDE = 5, 256  # windows per side, and their size, that a value range is found from
_WARNED: set[str] = set()  # warnings that this process has given


@dataclass(frozen=True)
class PixelRange:
    """The values that become 0 and 255; others are clipped.

    Attributes:
        low: The value that becomes 0: one, or one per band.
        high: The value that becomes 255: likewise.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def parse(cls, value: object, where: str = "pixel_range") -> PixelRange:
        """Read ``(low, high)``, a list of such pairs (one per band), or the text ``low,high``.

        Args:
            value: Of a config or an option.
            where: Its place, for the error.

        Raises:
            ConfigError: It is none of these, or a high value is not above its low one.
        """
        try:
            parts: Any = value.split(",") if isinstance(value, str) else value
            pairs = [parts] if len(parts) == 2 and not isinstance(parts[0], Sequence | tuple) else parts
            pairs = [parts] if isinstance(value, str) else pairs
            low, high = zip(*((float(first), float(last)) for first, last in pairs), strict=True)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"the value range {value!r} is neither (low, high) nor a list of such pairs, one per band",
                where=where,
                fix="pixel_range=(0, 2047)",
            ) from error
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ConfigError(
                f"the value range {value!r} does not rise from low to high", where=where, fix="exchange them"
            )
        return cls(low, high)

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``(H, W, C)`` on the 0..255 scale, clipped and not rounded; NaN becomes 0.

        Raises:
            ConfigError: There is one range per band, for another number of bands.
        """
        if len(self.low) not in (1, pixels.shape[2]):
            raise ConfigError(
                f"pixel_range has {len(self.low)} pairs, and {pixels.shape[2]} bands are read",
                where="pixel_range",
                fix="give one pair for all bands, or one per band",
            )
        low, high = (np.asarray(values, dtype=np.float32) for values in (self.low, self.high))
        scaled = (pixels.astype(np.float32) - low) * (np.float32(255) / (high - low))
        return np.nan_to_num(np.clip(scaled, 0, 255, out=scaled), copy=False)


@dataclass(frozen=True)
class ImageLoading:
    """How image files become arrays; equal in training, test and prediction of one config.

    Arrays are ``(H, W, C)`` on the 0..255 scale: ``uint8``, or ``float32`` if asked for. Three bands come in
    the order blue, green, red that mm pipelines expect (their preprocessors turn it); any other number of
    bands comes in the order chosen.

    16-bit values without a range are cut to their upper byte, with a warning that names the values found.

    Attributes:
        bands: The bands, by number from 1 or by name; three are red, green, blue. ``None``: the first three,
            or the first band three times where the file has fewer. ``'all'``: every band of the file.
        pixel_range: Which values become 0 and 255; ``'native'`` leaves values and dtype as they are, but for
            NaN, which becomes 0.
        to_float32: Return ``float32``, not rounded where a range is applied.
        grey: Turn three bands into one grey band.
        blue_first: Numbers of bands of which the first three come as blue, green, red.
    """

    bands: Bands | Literal["all"] | None = None
    pixel_range: PixelRange | Literal["native"] | None = None
    to_float32: bool = False
    grey: bool = False
    blue_first: tuple[int, ...] = (3,)

    def open(self, path: str | Path, *, decode_limit: int | None = DECODE_LIMIT) -> LoadedImage:
        """Open an image.

        Args:
            path: The file.
            decode_limit: As for :class:`RasterReader`.

        Raises:
            DataError: The file is missing or no image, lacks a band, or has values that need a range.
        """
        return LoadedImage(self, path, decode_limit)

    def read(self, path: str | Path) -> NDArray[Any]:
        """Return a whole image ``(H, W, C)``.

        Raises:
            DataError: As for :meth:`open`, or the pixels are broken.
        """
        with self.open(path, decode_limit=None) as image:
            return image.read()

    def picture(self, path: str | Path, max_side: int | None = None) -> NDArray[np.uint8]:
        """Return an image to look at, of any kind of pixels: RGB ``(H, W, 3)``.

        Shown are the first three of the bands chosen, or the one. Values without a declared range are
        stretched from the least to the largest of the raster.

        Args:
            path: The file.
            max_side: Longest side; larger images are made smaller, from overviews where they have some.

        Raises:
            DataError: The file is missing or no image, lacks a band, or its pixels are broken.
        """
        chosen = self.bands if isinstance(self.bands, tuple) else None
        with RasterReader(path, chosen, decode_limit=None if max_side is None else DECODE_LIMIT) as reader:
            if reader.palette is not None:
                indices = reader.read()[..., 0]  # averages of indices mean nothing
                return np.array(reader.palette, np.uint8)[indices]
            scale = self.pixel_range
            if not isinstance(scale, PixelRange) and reader.dtype != np.uint8:
                low, high = found_range(reader)
                scale = PixelRange((low,), (high if high > low else low + 1,))
            pixels = reader.read() if max_side is None else reader.read_overview(max_side)
        if isinstance(scale, PixelRange):
            pixels = np.rint(scale.apply(pixels)).astype(np.uint8)
        return pixels[..., :3].copy() if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)

    def convert(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Turn pixels in their own dtype into what the model takes.

        Args:
            pixels: ``(H, W, C)`` in the order of the bands read.

        Returns:
            ``(H, W, C)``, contiguous, no view of ``pixels``.
        """
        if isinstance(self.pixel_range, PixelRange):
            pixels = self.pixel_range.apply(pixels)
            if not self.to_float32:
                pixels = np.rint(pixels).astype(np.uint8)
        elif self.pixel_range is None and pixels.dtype != np.uint8:
            pixels = (np.maximum(pixels, 0) >> _SHIFTS[pixels.dtype.name]).astype(np.uint8)
        if self.to_float32:
            pixels = pixels.astype(np.float32, copy=False)
        if np.issubdtype(pixels.dtype, np.floating):
            pixels = np.where(
                np.isnan(pixels), pixels.dtype.type(0), pixels
            )  # one NaN spreads to every weight
        count = pixels.shape[2]
        if self.grey:
            grey = (
                pixels if count == 1 else cv2.cvtColor(pixels[..., :3].copy(), cv2.COLOR_RGB2GRAY)[..., None]
            )
            return grey.copy()
        if count == 1 and self.bands is None:
            return np.repeat(pixels, 3, axis=2)
        return reordered(pixels, (2, 1, 0, *range(3, count)) if count in self.blue_first else range(count))


class LoadedImage:
    """An open image whose windows come as the model takes them. Any thread may read; it pickles.

    Args:
        loading: Bands and range.
        path: The file.
        decode_limit: As for :class:`RasterReader`.

    Attributes:
        reader: The raster: its size, georeference and pixels in their own dtype.

    Raises:
        DataError: As for :meth:`ImageLoading.open`.
    """

    def __init__(self, loading: ImageLoading, path: str | Path, decode_limit: int | None = None) -> None:
        self.loading, self._decode_limit = loading, decode_limit
        chosen = loading.bands if isinstance(loading.bands, tuple) else None
        self.reader = RasterReader(path, chosen, decode_limit=decode_limit)
        if loading.bands == "all":
            self.reader.bands = tuple(range(1, self.reader.count + 1))
        elif chosen is None:
            data = self.reader.bands
            _warn_of_unused_bands(self.reader)
            self.reader.bands = data[:3] if len(data) >= 3 else data[:1]
        self._check_values()

    def _check_values(self) -> None:
        reader = self.reader
        if reader.palette is not None:
            raise DataError(
                "pixels are palette indices, not colours",
                where=reader.path,
                fix="write its colours: gdal_translate -expand rgb IN.tif OUT.tif",
            )
        if self.loading.pixel_range is not None or reader.dtype == np.uint8:
            return
        if reader.dtype.name not in _SHIFTS:
            low, high = found_range(reader)
            raise DataError(
                f"pixels are {reader.dtype} from {low:g} to {high:g}; expected 8 or 16 bit, or a value range",
                where=reader.path,
                fix=_range_fix(low, high),
            )
        if _first_time(reader.dtype.name):
            low, high = found_range(reader)
            divisor = 1 << _SHIFTS[reader.dtype.name]
            _warn(
                f"pixels of {reader.path} are {reader.dtype} from {low:g} to {high:g}, and no value range is "
                f"declared: they are divided by {divisor}, which leaves {int(high) // divisor + 1} levels; "
                f"{_range_fix(low, high)}"
            )

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.reader.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.reader.height

    def read(self, window: Window | None = None, *, out_size: Size | None = None) -> NDArray[Any]:
        """Read a window as the model takes it.

        Args:
            window: In pixels; ``None`` is the whole image. Parts beyond it are left out.
            out_size: Width and height to resample to.

        Returns:
            ``(H, W, C)``; see :class:`ImageLoading`.

        Raises:
            DataError: The pixels are broken, or a plain image does not fit into memory.
            ValueError: No part of the window is in the image.
        """
        return self.loading.convert(self.reader.read(window, out_size=out_size, shared=True))

    def close(self) -> None:
        """Close the file. A later read opens it again."""
        self.reader.close()

    def __enter__(self) -> LoadedImage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple:
        return LoadedImage, (self.loading, self.reader.path, self._decode_limit)


def read_window(image: LoadedImage, x: int, y: int, side: int) -> NDArray[Any]:
    """Return a square window ``(side, side, C)``; parts beyond the image are padded.

    Args:
        image: An open image.
        x: Column of the window's first pixel.
        y: Row of its first pixel.
        side: Of the window, in pixels.
    """
    return padded(image.read(Window(x, y, side, side)), side)


def padded(part: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the pixels of a window as a square ``(side, side, C)``, padded at the right and the bottom.

    Args:
        part: ``(H, W, C)``, as the model takes it.
        side: Of the window, in pixels.
    """
    if part.shape[:2] == (side, side):
        return part
    patch = np.empty((side, side, part.shape[2]), dtype=part.dtype)
    patch[...] = PADDING if part.shape[2] == len(PADDING) else 0
    patch[: part.shape[0], : part.shape[1]] = part
    return patch


def read_windows(
    image: LoadedImage, windows: NDArray[np.int64]
) -> Iterator[tuple[list[int], list[NDArray[Any]]]]:
    """Yield all windows of an image, those at one height together; parts beyond the image are padded.

    Each row of windows is read at once, less what it shares with the one above it: formats that decode from
    the top would begin anew for every window.

    Args:
        image: An open image.
        windows: Column, row and side ``(N, 3)`` of each.

    Yields:
        Positions in ``windows``, and the pixels ``(side, side, C)`` of each, which stay until the next row.

    Raises:
        DataError: The pixels are broken.
    """
    strip: NDArray[Any] = np.empty((0, 0, 0))
    top, extent = 0, (0, 0)
    order = np.lexsort((windows[:, 0], windows[:, 1], windows[:, 2])).tolist()
    for (side, y), group in groupby(order, key=lambda row: windows[row, [2, 1]].tolist()):
        rows = list(group)
        x1, x2 = int(windows[rows, 0].min()), min(int(windows[rows, 0].max()) + side, image.width)
        count = min(y + side, image.height) - y
        known = min(count, max(0, top + len(strip) - y)) if (x1, x2) == extent and y >= top else 0
        strip = _next_rows(image, (x1, x2), y, count, strip, strip[y - top :][:known])
        top, extent = y, (x1, x2)
        columns = [int(windows[row, 0]) - x1 for row in rows]
        yield rows, [padded(strip[:count, column : column + side], side) for column in columns]


def _next_rows(
    image: LoadedImage,
    extent: tuple[int, int],
    y: int,
    count: int,
    strip: NDArray[Any],
    known: NDArray[Any],
) -> NDArray[Any]:
    """Return rows of an image: those known already, moved up in place, and the next ones read in blocks."""
    whole = strip if len(strip) == count and len(known) else None
    bounds = [*range(0, len(known), _ROWS), *range(len(known), count, _ROWS), count]
    for start, end in pairwise(bounds):
        if end <= len(known):
            part = known[start:end]
        else:
            part = image.read(Window(extent[0], y + start, extent[1] - extent[0], end - start))
        if whole is None:
            whole = np.empty((count, *part.shape[1:]), part.dtype)
        whole[start:end] = part
    assert whole is not None  # windows have rows
    return whole


class OpenImages:
    """Images kept open between windows, the latest used first, within a limit of memory.

    Every process has its own: nothing is kept across a fork, and pickling leaves an empty one.

    Args:
        megabytes: Decoded pixels kept; the image in use is kept whatever its size.
        loading: How the images are loaded.
    """

    def __init__(self, megabytes: float, loading: ImageLoading = ImageLoading()) -> None:
        self.megabytes, self.loading = megabytes, loading
        self._kept: OrderedDict[str, LoadedImage] = OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> tuple:
        return OpenImages, (self.megabytes, self.loading)

    def open(self, path: str) -> LoadedImage:
        """Return an open image, opening it if need be.

        Raises:
            DataError: As for :meth:`ImageLoading.open`.
        """
        if self._process != os.getpid():
            self._kept, self._process = OrderedDict(), os.getpid()
        if path not in self._kept:
            self._kept[path] = self.loading.open(path, decode_limit=None)
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and (
            sum(image.reader.held for image in self._kept.values()) > self.megabytes * 2**20
            or len(self._kept) > _MOST_OPEN
        ):
            self._kept.popitem(last=False)
        return self._kept[path]


def found_range(reader: RasterReader) -> tuple[float, float]:
    """Return the least and the largest valid value in windows spread over a raster; (0, 0) without any."""
    low, high = np.inf, -np.inf
    width, height = min(reader.width, _SAMPLE_SIDE), min(reader.height, _SAMPLE_SIDE)
    lefts, tops = (
        np.unique(np.linspace(0, end, _SAMPLES, dtype=int)).tolist()
        for end in (reader.width - width, reader.height - height)
    )
    for window in (Window(left, top, width, height) for top in tops for left in lefts):
        values = reader.read(window)[reader.valid_mask(window)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _range_fix(low: float, high: float) -> str:
    return (
        f"set the range that all images share: image_loading=dict(pixel_range=({low:g}, {high:g})) in the "
        f"config, or --pixel-range {low:g},{high:g} of rsf train, test and predict"
    )


def _warn_of_unused_bands(reader: RasterReader) -> None:
    count = len(reader.bands)
    if count not in (1, 3) and _first_time(f"{count} bands"):
        taken = "bands 1, 2 and 3 are read" if count > 3 else "band 1 is read"
        _warn(
            f"{reader.path} has {count} bands: {taken} as {'red, green, blue' if count > 3 else 'grey'}; "
            "choose by number or name: image_loading=dict(bands=(1, 2, 3)) in the config, or --bands 1,2,3 "
            "of rsf train, test and predict"
        )


def _first_time(topic: str) -> bool:
    """Return whether this process has not warned of a topic yet; of data loaders the first worker warns."""
    torch = sys.modules.get("torch")
    worker = torch.utils.data.get_worker_info() if torch is not None else None
    if topic in _WARNED or (worker is not None and worker.id):
        return False
    _WARNED.add(topic)
    return True


def _warn(message: str) -> None:
    from mmengine.logging import MMLogger  # imports torch

    MMLogger.get_current_instance().warning(message)
