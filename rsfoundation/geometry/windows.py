"""Overlapping windows over an image, and the objects of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import Window
from rsfoundation.geometry.tiling import TilingSettings, window_sizes

_WHOLE = 1 - 1e-6  # share from which an object counts as whole


@dataclass(frozen=True)
class Tile:
    """A square window; it may reach over the right and bottom edges of the image."""

    x: int
    y: int
    size: int

    def image_share(self, width: int, height: int) -> float:
        """Return the share of the window that the image fills.

        Args:
            width: Of the image.
            height: Of the image.
        """
        inside_x, inside_y = min(self.size, width - self.x), min(self.size, height - self.y)
        return inside_x * inside_y / self.size**2


@dataclass(frozen=True)
class Placement:
    """Which objects belong to a window.

    Attributes:
        index: Positions of the objects, ascending.
        truncated: For each, whether the window's border cuts through it.
    """

    index: tuple[int, ...]
    truncated: tuple[bool, ...]


def tile_grid(
    width: int,
    height: int,
    *,
    window: int,
    gap: int,
    rates: Sequence[float] = (1.0,),
    min_image_share: float = 0.6,
) -> list[Tile]:
    """Return the windows that cover an image.

    Args:
        width: Of the image.
        height: Of the image.
        window: Side of a window at rate 1.
        gap: Pixels that neighbouring windows share at rate 1.
        rates: A rate divides window and gap: rate 0.5 makes windows twice as large.
        min_image_share: Windows that the image fills no more than this are left out, unless all are:
            the fullest then stay.

    Raises:
        ConfigError: A rate is not positive, or the gap leaves no step.
    """
    tiles: list[Tile] = []
    for size, shared in window_sizes(window, gap, rates):
        columns, rows = (window_starts(side, size, size - shared) for side in (width, height))
        tiles += [Tile(x, y, size) for y in rows for x in columns]
    tiles = list(dict.fromkeys(tiles))
    shares = [tile.image_share(width, height) for tile in tiles]
    least = min(min_image_share, max(shares) - 1e-9)
    return [tile for tile, share in zip(tiles, shares, strict=True) if share > least]


def tiles_of(tiling: TilingSettings, width: int, height: int) -> list[Tile]:
    """Return the windows that settings make of an image.

    Args:
        tiling: Windows and thresholds.
        width: Of the image.
        height: Of the image.

    Raises:
        ConfigError: They make no windows.
    """
    return tile_grid(
        width,
        height,
        window=tiling.window,
        gap=tiling.gap,
        rates=tiling.rates,
        min_image_share=tiling.min_image_share,
    )


def window_starts(length: int, size: int, step: int) -> list[int]:
    """Return the starts along one axis; the last window is shifted back inside the image.

    Args:
        length: Of the image along the axis.
        size: Side of a window.
        step: Between the starts of two windows.
    """
    last = max(0, length - size)
    return [*range(0, last, step), last]


def place_objects(quads: ArrayLike, tiles: Sequence[Tile], min_share: float = 0.7) -> list[Placement]:
    """Find the objects of each window.

    Args:
        quads: Corners ``(N, 8)`` in image pixels. Quads without area belong to no window.
        tiles: The windows.
        min_share: Least share of an object's area that must be in the window.
    """
    shapes = _shapes(quads)
    areas = shapely.area(shapes)
    corners = np.array([(tile.x, tile.y, tile.x + tile.size, tile.y + tile.size) for tile in tiles])
    squares = shapely.box(*corners.reshape(-1, 4).T.astype(np.float64))
    tile, item = shapely.STRtree(shapes).query(squares)
    tile, item = tile[areas[item] > 0], item[areas[item] > 0]
    shares = _shares(shapes, areas, squares, tile, item)
    inside = shares >= min_share
    tile, item, cut = tile[inside], item[inside], shares[inside] < _WHOLE
    order = np.lexsort((item, tile))
    ends = np.cumsum(np.bincount(tile, minlength=len(tiles)))[:-1]
    indices, cuts = np.split(item[order], ends), np.split(cut[order], ends)
    return [Placement(tuple(a.tolist()), tuple(b.tolist())) for a, b in zip(indices, cuts, strict=True)]


def object_areas(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the area ``(N,)`` of quads ``(N, 8)``."""
    return np.asarray(shapely.area(_shapes(quads)))


def _shares(
    shapes: NDArray[np.object_],
    areas: NDArray[np.float64],
    squares: NDArray[np.object_],
    tile: NDArray[np.int64],
    item: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the share of each object that is inside the square it is paired with."""
    left, top, right, bottom = shapely.bounds(shapes)[item].T
    x1, y1, x2, y2 = shapely.bounds(squares)[tile].T
    partly = (left < x1) | (top < y1) | (right > x2) | (bottom > y2)
    shares = np.ones(len(item))
    common = shapely.intersection(shapes[item[partly]], squares[tile[partly]])
    shares[partly] = shapely.area(common) / areas[item[partly]]
    return shares


def _shapes(quads: ArrayLike) -> NDArray[np.object_]:
    """Return quads ``(N, 8)`` as polygons; of corners in a crossed order, as some files have, the hull."""
    shapes = shapely.polygons(np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2))
    crossed = ~shapely.is_valid(shapes)
    shapes[crossed] = shapely.convex_hull(shapes[crossed])
    return shapes


def window_grid(height: int, width: int, size: int, overlap: int) -> list[Window]:
    """Cover a scene with windows, row by row; the last of each row and column is shifted back inside.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        size: Side of a window; a smaller scene gets one window of its own size.
        overlap: Pixels that neighbouring windows share at least.

    Raises:
        ConfigError: The overlap leaves no step.
    """
    if not 0 <= overlap < size:
        raise ConfigError(
            f"windows of {size} px cannot overlap by {overlap} px",
            where="--overlap",
            fix=f"choose 0 to {size - 1}; an object's longest side is a good choice",
        )
    return [
        Window(left, top, min(size, width), min(size, height))
        for top in window_starts(height, size, size - overlap)
        for left in window_starts(width, size, size - overlap)
    ]
