"""Rasters as satellites and GIS programs write them, made without GDAL; and how to do without rasterio."""

import sys
from pathlib import Path

import numpy as np
import tifffile

# GeoTIFF keys of a projected raster, UTM 33N in metres: (key, place, count, value) in rows
_UTM33 = (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633, 3076, 0, 1, 9001)
_DEGREES = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
_KEYS = {"EPSG:32633": _UTM33, "EPSG:4326": _DEGREES}


def hide_rasterio(monkeypatch):
    """Let ``import rasterio`` fail for the rest of a test."""
    monkeypatch.setitem(sys.modules, "rasterio", None)


def write_tiff(
    path, pixels, *, nodata=None, names=None, crs=None, origin=(500000.0, 5000000.0), gsd=0.5, **options
):
    """Write ``(H, W, C)`` or ``(H, W)`` as TIFF.

    Options are tifffile's: ``photometric`` (``minisblack`` where not given), ``planar=True`` for a plane per
    band, ``alpha`` for the kind of the bands beyond the colours (0 unspecified, 2 unassociated), ``tile``,
    ``compression``, ``predictor``.
    """
    pixels = np.asarray(pixels)
    count = 1 if pixels.ndim == 2 else pixels.shape[2]
    pixels = pixels if count > 1 else pixels.reshape(pixels.shape[:2])
    photometric = options.pop("photometric", "minisblack")
    colours = 3 if photometric == "rgb" else 1
    extra = [options.pop("alpha", 0)] * (count - colours)
    if extra:
        options["extrasamples"] = extra
    if options.pop("planar", False):
        options["planarconfig"] = "separate"
        pixels = np.moveaxis(pixels, 2, 0)
    elif count > 1:
        options["planarconfig"] = "contig"
    tags = []
    if nodata is not None:
        tags.append((42113, "s", 0, str(nodata), True))
    if names:
        items = "".join(
            f'<Item name="DESCRIPTION" sample="{index}" role="description">{name}</Item>'
            for index, name in enumerate(names)
        )
        tags.append((42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True))
    if crs:
        tags += [
            (33550, "d", 3, (gsd, gsd, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, *origin, 0.0), True),
            (34735, "H", len(_KEYS[crs]), _KEYS[crs], True),
        ]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, extratags=tags, **options)
    return path
