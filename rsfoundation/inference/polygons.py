"""Polygons of a class map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.task import Classes
from rsfoundation.io.vectors import Features, class_columns

_BATCH = 4096  # polygons that are built at once
_Rings = Sequence[Sequence[tuple[float, float]]]


def map_polygons(
    path: Path,
    classes: Classes,
    *,
    background: int | None = None,
    simplify: float = 0.0,
    min_area: float = 0.0,
) -> Features:
    """Return the regions of equal class of a map, in pixel edges.

    Pixels belong together when they share an edge, so that every polygon is valid. GDAL reads the map line
    by line: memory grows with the polygons, not with the map.

    Args:
        path: One band of labels with its no-data value.
        classes: Their names.
        background: Label that gets no polygons.
        simplify: Largest distance in pixels by which outlines may move; shared edges move together.
        min_area: Regions with less pixels are left out.
    """
    shapes, labels = _regions(path)
    areas = shapely.area(shapes)
    keep = (areas >= min_area) & (labels < len(classes.names))
    if simplify > 0 and len(shapes):
        moved = shapely.coverage_simplify(shapes, simplify)
        broken = ~shapely.is_valid(moved) | shapely.is_empty(moved)
        shapes = np.where(broken, shapes, moved)
    if background is not None:
        keep &= labels != background
    shapes, labels, areas = shapes[keep], labels[keep], areas[keep]
    return Features(shapes, {**class_columns(classes.names, labels), "pixels": areas.astype(np.int64)})


def _regions(path: Path) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    import rasterio
    from rasterio.features import shapes

    polygons, labels = [np.empty(0, dtype=object)], []
    with rasterio.open(path) as raster:
        nodata = raster.nodata
        to_pixels = ~raster.transform  # of a band, GDAL's coordinates are those of the CRS
        regions = shapes(rasterio.band(raster, 1), connectivity=4)
        found = ((region["coordinates"], value) for region, value in regions if value != nodata)
        while batch := list(islice(found, _BATCH)):
            polygons.append(_polygons([rings for rings, _ in batch], to_pixels[:6]))
            labels += [int(value) for _, value in batch]
    return np.concatenate(polygons), np.array(labels, dtype=np.int64)


def _polygons(parts: Sequence[_Rings], to_pixels: Sequence[float]) -> NDArray[np.object_]:
    """Return polygons in pixel edges; together they take less than half the time of ``shapely.Polygon``.

    Args:
        parts: The rings of each polygon, the outer one first, in the coordinates of the CRS.
        to_pixels: Affine transform of these to pixel edges.
    """
    rings = [ring for part in parts for ring in part]
    lengths = [len(ring) for ring in rings]
    numbers = chain.from_iterable(chain.from_iterable(rings))
    x, y = np.fromiter(numbers, dtype=np.float64, count=2 * sum(lengths)).reshape(-1, 2).T
    a, b, c, d, e, f = to_pixels
    points = np.rint(np.stack([a * x + b * y + c, d * x + e * y + f], axis=1))
    made = shapely.linearrings(points, indices=np.repeat(np.arange(len(rings)), lengths))
    owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.asarray(shapely.polygons(made, indices=owners))


def mask_polygon(bitmap: NDArray[np.bool_], left: int, top: int) -> shapely.Geometry:
    """Return the outline of a mask in pixel edges: one polygon for each part.

    Args:
        bitmap: ``(h, w)``.
        left: Column of its first pixel.
        top: Row of its first pixel.
    """
    from rasterio import Affine
    from rasterio.features import shapes

    parts = [
        shapely.Polygon(geometry["coordinates"][0], geometry["coordinates"][1:])
        for geometry, _ in shapes(
            bitmap.astype(np.uint8), mask=bitmap, connectivity=4, transform=Affine(1, 0, left, 0, 1, top)
        )
    ]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
