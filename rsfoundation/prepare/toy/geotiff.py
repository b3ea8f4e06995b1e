"""Large toy scenes as GeoTIFFs: two dates, five bands, a border without data; polygons of change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import Features, write_vectors
from rsfoundation.prepare.toy.make import LAND_CLASSES, LARGE, class_map
from rsfoundation.prepare.toy.scene import GSD, Scene
from rsfoundation.prepare.toy.scene_model import DATES

CRS = "EPSG:32633"
CORNER = (500_000.0, 5_200_000.0)  # easting and northing of the upper left corner of the first scene
BORDER = 48  # pixels without data on the left
BANDS = ("red", "green", "blue", "near infrared", "height")
_NEAR_INFRARED = {"low_vegetation": 170, "tree": 200}
_HEIGHT = {"building": 90, "tree": 60, "car": 15}


def make_geotiffs(
    root: Path, count: int, *, size: tuple[int, int] = (1280, 960), seed: int = 0
) -> list[Path]:
    """Write the large toy scenes to ``<root>/geotiff/large_<n>_<date>.tif``.

    The first three bands are those of the large scenes of the tasks; near infrared and height follow from
    what is drawn. Pixels without data are 0 in every band.

    Args:
        root: Folder of the toy scenes.
        count: Number of scenes.
        size: Width and height in pixels.
        seed: As for :func:`rsfoundation.prepare.toy.make.make_toy_scenes`.

    Returns:
        The files: of each scene the first, then the second date.

    Raises:
        DataError: rasterio is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise DataError(
            "GeoTIFFs are written through rasterio, which is not installed",
            where=root / "geotiff",
            fix="pip install 'rsfoundation[geo]'",
        ) from error
    folder = root / "geotiff"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(1, count + 1):
        scene = Scene((seed, LARGE, number), *size)
        transform = rasterio.Affine(GSD, 0, _west(number, size[0]), 0, -GSD, CORNER[1])
        for date in range(DATES):
            bands = _bands(scene, date)
            file = folder / f"large_{number}_{date + 1}.tif"
            profile = dict(driver="GTiff", width=size[0], height=size[1], count=len(BANDS), dtype="uint8")
            layout = dict(tiled=True, blockxsize=256, blockysize=256, compress="deflate", photometric="rgb")
            place = dict(crs=CRS, transform=transform, nodata=0)
            with (
                replacing(file) as temporary,
                rasterio.open(temporary, "w", **profile, **layout, **place) as made,
            ):
                made.write(bands)
                made.descriptions = BANDS
            files.append(file)
    return files


def make_change_polygons(
    root: Path, count: int, *, size: tuple[int, int] = (1280, 960), seed: int = 0
) -> list[Path]:
    """Write the outlines of what changed in each large toy scene: ``<root>/geotiff/large_<n>_changes.gpkg``.

    Args:
        root: As for :func:`make_geotiffs`.
        count: As for :func:`make_geotiffs`.
        size: As for :func:`make_geotiffs`.
        seed: As for :func:`make_geotiffs`.

    Returns:
        The files.
    """
    import shapely.geometry
    from rasterio.features import shapes

    files = []
    for number in range(1, count + 1):
        changed = Scene((seed, LARGE, number), *size).change_mask().astype(np.uint8)
        outlines = [shapely.geometry.shape(shape) for shape, _ in shapes(changed, mask=changed > 0)]
        file = root / "geotiff" / f"large_{number}_changes.gpkg"
        reference = GeoReference(CRS, (GSD, 0.0, _west(number, size[0]), 0.0, -GSD, CORNER[1]))
        features = Features(np.asarray(outlines, dtype=object))
        write_vectors(features, reference, file, format_="gpkg", layer="changes")
        files.append(file)
    return files


def _west(number: int, width: int) -> float:
    """Return the easting of the left border of a scene."""
    return CORNER[0] + (number - 1) * 2 * width * GSD


def _bands(scene: Scene, date: int) -> NDArray[np.uint8]:
    """Return ``(5, H, W)`` of one date: at least 1 where there is data."""
    image = scene.image(date)
    names = [land.name for land in LAND_CLASSES]
    classes = class_map(scene)
    near = np.array([_NEAR_INFRARED.get(name, 70) for name in names], dtype=np.uint8)[classes]
    height = np.array([_HEIGHT.get(name, 1) for name in names], dtype=np.uint8)[classes]
    bands = np.maximum(np.stack([*np.moveaxis(image, 2, 0), near, height]), 1)
    bands[:, :, :BORDER] = 0
    return bands
