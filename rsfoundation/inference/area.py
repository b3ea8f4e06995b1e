"""The area of interest of a prediction: which windows it needs, which pixels and objects are inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.inference.grid import SceneGrid
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import read_polygons


@dataclass(frozen=True)
class Area:
    """Polygons in pixel edges of one scene.

    Attributes:
        shape: Polygon or multi-polygon.
    """

    shape: shapely.Geometry

    def touches(self, window: Window, margin: int = 0) -> bool:
        """Say whether a window has a part of the area, or is no further than ``margin`` pixels from it.

        Args:
            window: In scene pixels.
            margin: In pixels.
        """
        box = shapely.box(
            window.left - margin,
            window.top - margin,
            window.left + window.width + margin,
            window.top + window.height + margin,
        )
        return bool(self.shape.intersects(box))

    def needs(self, window: Window, grid: SceneGrid, is_map: bool) -> bool:
        """Say whether a window is predicted.

        Args:
            window: In scene pixels.
            grid: The windows of the scene.
            is_map: Whether the result is a map; objects near the area count too, for they may suppress some
                inside.
        """
        return self.touches(grid.used_part(window)) if is_map else self.touches(window, grid.overlap)

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which points ``(N, 2)`` in pixel edges are inside."""
        shapely.prepare(self.shape)
        return np.asarray(shapely.contains_xy(self.shape, points[:, 0], points[:, 1]))

    def mask(self, top: int, bottom: int, width: int) -> NDArray[np.bool_]:
        """Return which pixels of the scene rows ``[top, bottom)`` have their centres inside.

        Args:
            top: First row.
            bottom: Row after the last.
            width: Scene width in pixels.
        """
        from rasterio import Affine
        from rasterio.features import geometry_mask

        if not self.shape.intersects(shapely.box(0, top, width, bottom)):
            return np.zeros((bottom - top, width), dtype=bool)
        return ~geometry_mask([self.shape], (bottom - top, width), Affine(1, 0, 0, 0, 1, top))


def read_area(source: str, reference: GeoReference, size: tuple[int, int], scene: Path) -> Area:
    """Read an area of interest for one scene.

    Args:
        source: A vector file (any that OGR reads), or ``xmin,ymin,xmax,ymax`` in the CRS of the scene.
        reference: Of the scene at the resolution of the prediction.
        size: Height and width of the scene at that resolution.
        scene: Its file, for errors.

    Raises:
        ConfigError: The text is no box, or the scene has no transform.
        DataError: The file holds no polygon or cannot be read, or nothing of the area is in the scene.
    """
    if reference.transform is None:
        raise ConfigError(
            "the scene has no transform, so that an area of interest has no place in it",
            where=scene,
            fix="georeference the scene, or leave --aoi out",
        )
    path = Path(source)
    if path.exists():
        area = Area(shapely.make_valid(shapely.union_all(read_polygons(path, reference))))
    else:
        area = Area(shapely.transform(_read_box(source), reference.crs_to_pixel_edges))
    height, width = size
    if not area.touches(Window(0, 0, width, height)):
        corners = reference.pixel_edges_to_crs([(0, 0), (width, 0), (0, height), (width, height)])
        extent = ",".join(f"{value:.10g}" for value in (*corners.min(axis=0), *corners.max(axis=0)))
        raise DataError(
            f"the area of interest is outside of the scene, which covers {extent} ({reference.crs})",
            where=scene,
            fix="choose an area within (--aoi), or leave the scene out",
        )
    return area


def _read_box(source: str) -> shapely.Geometry:
    parts = source.split(",")
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError as error:
        raise ConfigError(
            f"the area of interest '{source}' is neither a file nor a box",
            where="--aoi",
            fix="name a vector file, or give xmin,ymin,xmax,ymax in the CRS of the scene",
        ) from error
    if not (west < east and south < north):
        raise ConfigError(f"the box {source} is empty", where="--aoi", fix="give xmin,ymin,xmax,ymax")
    return shapely.box(west, south, east, north)
