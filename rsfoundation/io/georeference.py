"""Where the pixels of a raster are on the ground: CRS, affine transform, ground control points."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = tuple[float, float, float, float, float, float]

# Length of a degree on the WGS 84 ellipsoid; series in the latitude, in metres (NGA.STND.0036, 2014).
_LATITUDE_SERIES = (111132.954, -559.822, 1.175, -0.0023)
_LONGITUDE_SERIES = (111412.84, -93.5, 0.118)


@dataclass(frozen=True)
class GeoReference:
    """The georeference of a raster, or of a window of one.

    Two frames of pixel coordinates exist, and every method names its own. *Pixel edges*: ``(0, 0)`` is
    the outer corner of the first pixel and ``(width, height)`` that of the last; GDAL's transforms and
    polygons of rasters are in this frame. *Pixel centres*: integers are centres of pixels; boxes and masks of
    this package are in that frame. They differ by half a pixel.

    Attributes:
        crs: The coordinate reference system, as ``EPSG:n`` where it has a code, else as WKT; ``None`` where
            the file names none.
        transform: ``(a, b, c, d, e, f)`` with ``x = a * column + b * row + c`` and
            ``y = d * column + e * row + f`` for pixel edges, the order of ``affine.Affine``; ``None`` where
            the file has no transform.
        ground_sampling_distance: Metres per pixel along columns and rows, in the middle of the raster;
            ``None`` where it is not known.
        gcps: Number of ground control points. A raster with control points and no transform must be
            warped before its pixels have coordinates.
        has_rpcs: Whether the file has rational polynomial coefficients (an image that is not orthorectified).
    """

    crs: str | None = None
    transform: Affine | None = None
    ground_sampling_distance: tuple[float, float] | None = None
    gcps: int = 0
    has_rpcs: bool = False

    @property
    def is_referenced(self) -> bool:
        """Whether pixels have coordinates in a known CRS."""
        return self.crs is not None and self.transform is not None

    def pixel_edges_to_crs(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return CRS coordinates ``(..., 2)`` (x, y) of points ``(..., 2)`` (column, row) in pixel edges.

        Raises:
            ValueError: There is no transform.
        """
        a, b, c, d, e, f = self._known_transform()
        column, row = np.moveaxis(np.asarray(points, dtype=np.float64), -1, 0)
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=-1)

    def pixel_centers_to_crs(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return CRS coordinates ``(..., 2)`` of points ``(..., 2)`` in pixel centres, as boxes have them.

        Raises:
            ValueError: There is no transform.
        """
        return self.pixel_edges_to_crs(np.asarray(points, dtype=np.float64) + 0.5)

    def crs_to_pixel_edges(self, points: ArrayLike) -> NDArray[np.float64]:
        """Return (column, row) in pixel edges ``(..., 2)`` of CRS coordinates ``(..., 2)``.

        Raises:
            ValueError: There is no transform, or it cannot be inverted.
        """
        a, b, c, d, e, f = self._known_transform()
        determinant = a * e - b * d
        if determinant == 0:
            raise ValueError(f"the transform {self.transform} cannot be inverted")
        x, y = np.moveaxis(np.asarray(points, dtype=np.float64) - (c, f), -1, 0)
        return np.stack([(e * x - b * y) / determinant, (a * y - d * x) / determinant], axis=-1)

    def shifted(self, left: float, top: float) -> GeoReference:
        """Return the georeference of the part of the raster that starts at a column and a row.

        Args:
            left: Column of the part's first pixel, in pixel edges.
            top: Row of the part's first pixel, in pixel edges.
        """
        if self.transform is None:
            return self
        a, b, _, d, e, _ = self.transform
        x, y = self.pixel_edges_to_crs((left, top))
        return replace(self, transform=(a, b, float(x), d, e, float(y)))

    def scaled(self, columns: float, rows: float) -> GeoReference:
        """Return the georeference of a resampled raster, whose pixels are larger by two factors.

        Args:
            columns: Old pixels per new one along columns.
            rows: Old pixels per new one along rows.
        """
        distance = self.ground_sampling_distance
        larger = None if distance is None else (distance[0] * columns, distance[1] * rows)
        if self.transform is None:
            return replace(self, ground_sampling_distance=larger)
        a, b, c, d, e, f = self.transform
        transform = (a * columns, b * rows, c, d * columns, e * rows, f)
        return replace(self, transform=transform, ground_sampling_distance=larger)

    def _known_transform(self) -> Affine:
        if self.transform is None:
            raise ValueError("the raster has no transform: its pixels have no coordinates")
        return self.transform


def grid_offset(one: GeoReference, two: GeoReference, width: int, height: int) -> NDArray[np.float64] | None:
    """Return how far the corners of a raster are from those of another one of its size, in its pixels.

    Args:
        one: Of the raster.
        two: Of the other one, in the same CRS.
        width: Of both, in pixels.
        height: Of both, in pixels.

    Returns:
        ``(4, 2)``; ``None`` where one has no transform.
    """
    if one.transform is None or two.transform is None:
        return None
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    return one.crs_to_pixel_edges(two.pixel_edges_to_crs(corners)) - corners


def pixel_size_in_metres(
    transform: Affine, size: tuple[int, int], *, metres_per_unit: float | None = None, degrees: bool = False
) -> tuple[float, float] | None:
    """Return metres per pixel along columns and rows in the middle of a raster.

    Args:
        transform: Of pixel edges, see :class:`GeoReference`.
        size: Width and height in pixels.
        metres_per_unit: Length of a unit of a projected CRS; ``None`` where it is not known.
        degrees: Whether the CRS has longitude and latitude in degrees; ``metres_per_unit`` is not used then.
    """
    a, b, _, d, e, f = transform
    if not degrees:
        if metres_per_unit is None:
            return None
        return math.hypot(a, d) * metres_per_unit, math.hypot(b, e) * metres_per_unit
    latitude = math.radians(d * size[0] / 2 + e * size[1] / 2 + f)
    north = sum(term * math.cos(2 * index * latitude) for index, term in enumerate(_LATITUDE_SERIES))
    east = sum(term * math.cos((2 * index + 1) * latitude) for index, term in enumerate(_LONGITUDE_SERIES))
    return math.hypot(a * east, d * north), math.hypot(b * east, e * north)
