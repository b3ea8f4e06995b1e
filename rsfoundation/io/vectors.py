"""Objects of a scene as vector files: GeoPackage, GeoJSON, GeoParquet, FlatGeobuf, Shapefile.

Geometries come in pixel edges of the scene and leave in the scene's CRS (GeoJSON: longitude and latitude in
WGS 84, as RFC 7946 has it). Lengths, areas and bearings are geodesic, on the ellipsoid of the CRS.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.styles import Colours, vector_style

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

_FAR = 1e9  # pixels; no raster is as large
_HARDEST = 999
_SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".shp")  # the main file appears last
VECTOR_FORMATS = ("gpkg", "geojson", "parquet", "fgb", "shp")


@dataclass(frozen=True)
class Features:
    """Objects of one scene.

    Attributes:
        polygons: ``(N,)`` shapely polygons or multi-polygons in pixel edges: (0, 0) is the outer corner of
            the first pixel.
        columns: Values per object, such as ``class`` and ``score``.
        axes: ``(N, 2, 2, 2)``: ends of the long, then of the short axis of oriented boxes, in pixel edges;
            ``None`` for other shapes.
    """

    polygons: NDArray[np.object_]
    columns: Mapping[str, NDArray] = field(default_factory=dict)
    axes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.polygons)

    def take(self, index: NDArray) -> Features:
        """Return some of the objects.

        Args:
            index: Positions, or booleans ``(N,)``.
        """
        columns = {name: values[index] for name, values in self.columns.items()}
        return Features(self.polygons[index], columns, None if self.axes is None else self.axes[index])


def class_columns(names: Sequence[str], labels: NDArray) -> dict[str, NDArray]:
    """Return the columns ``class`` and ``label`` of objects.

    Args:
        names: Class names.
        labels: ``(N,)`` indices into ``names``.
    """
    numbers = labels.astype(np.int64)
    return {"class": np.array(names, dtype=object)[numbers], "label": numbers}


def box_features(boxes: NDArray[np.float64], columns: Mapping[str, NDArray]) -> Features:
    """Return oriented boxes as features.

    Args:
        boxes: ``(N, 5)`` ``cx cy w h theta`` in pixel centres, w >= h, theta clockwise in radians.
        columns: Values per box.
    """
    centre, cos, sin = boxes[:, :2] + 0.5, np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    along = np.stack([cos, sin], axis=1) * boxes[:, 2:3] / 2
    across = np.stack([-sin, cos], axis=1) * boxes[:, 3:4] / 2
    corners = np.stack(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across],
        axis=1,
    )
    axes = np.stack(
        [
            np.stack([centre - along, centre + along], axis=1),
            np.stack([centre - across, centre + across], axis=1),
        ],
        axis=1,
    )
    return Features(shapely.polygons(corners.reshape(-1, 4, 2)), columns, axes.reshape(-1, 2, 2, 2))


def to_table(features: Features, reference: GeoReference) -> GeoDataFrame:
    """Return features in the CRS of their scene, with geodesic measures.

    These are ``area_m2``, and for boxes ``length_m``, ``width_m`` and ``bearing``: that of the long axis in
    degrees clockwise from true north, in [0, 180). They are missing where the scene has no CRS.

    Args:
        features: In pixel edges.
        reference: Of the scene; without a transform, coordinates stay pixels.
    """
    import geopandas

    shapes = features.polygons
    if reference.transform is not None:
        shapes = shapely.transform(shapes, reference.pixel_edges_to_crs)
        shapes = _counter_clockwise(shapes)
    columns = {"id": np.arange(1, len(shapes) + 1), **features.columns}
    columns.update(_measures(shapes, features.axes, reference))
    crs = None if reference.transform is None else reference.crs  # pixels are in no CRS
    return geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def read_polygons(path: Path, reference: GeoReference) -> NDArray[np.object_]:
    """Read the polygons of a vector file as valid shapes ``(N,)`` in pixel edges of a raster.

    Shapes of other kinds and empty ones are left out. A file without CRS is taken to have that of the raster.

    Args:
        path: Any vector file that OGR reads.
        reference: Of the raster; it has a transform.

    Raises:
        DataError: The file cannot be read, or holds no polygon.
    """
    shapes = read_shapes(path, reference, ("Polygon", "MultiPolygon"))
    return np.asarray(shapely.make_valid(shapes), dtype=object)


def read_shapes(
    path: Path,
    reference: GeoReference,
    kinds: Sequence[str],
    content: str = "polygons",
    fix: str | None = None,
) -> NDArray[np.object_]:
    """Read the shapes of some kinds of a vector file ``(N,)`` in pixel edges of a raster.

    Shapes of other kinds and empty ones are left out. A file without CRS is taken to have that of the raster.

    Args:
        path: Any vector file that OGR reads.
        reference: Of the raster; it has a transform.
        kinds: Geometry types, the one that errors name first.
        content: The shapes in the plural, for errors.
        fix: For a file without any.

    Raises:
        DataError: The file cannot be read, or holds no such shape.
    """
    table = _read_table(path, reference, kinds, content)
    if table.empty:
        raise DataError(f"the file holds no {kinds[0].lower()}", where=path, fix=fix)
    return _in_pixels(np.asarray(table.geometry.values), reference, path)


def read_labelled_polygons(
    path: Path, reference: GeoReference, column: str = "class"
) -> tuple[NDArray[np.object_], list[str], list[int]]:
    """Read the polygons of a label file with their classes.

    Shapes of other kinds and empty ones are left out; of a multi-polygon each part is an object. Without a
    transform of the raster, the file has pixels.

    Args:
        path: Any vector file that OGR reads.
        reference: Of the raster.
        column: The column of class names; a column ``difficult`` is read, too.

    Returns:
        Polygons ``(N,)`` in pixel edges of the raster, class names, and difficulties.

    Raises:
        DataError: The file cannot be read, or has no such column, or a polygon has no class.
    """
    table = _read_table(path, reference, ("Polygon", "MultiPolygon"), "labels")
    if table.empty:  # an empty GeoJSON has no columns either
        return np.zeros(0, dtype=object), [], []
    if column not in table.columns:
        found = ", ".join(str(name) for name in table.columns if name != table.geometry.name) or "none"
        fix = "name the column of the classes with class_column='...' (`--class-column`)"
        raise DataError(f"no column {column!r}; the file has {found}", where=path, fix=fix)
    bare = int(table[column].isna().sum())
    if bare:
        raise DataError(f"{bare} of {len(table)} polygons have no {column}", where=path, fix="label them")
    parts, owner = shapely.get_parts(np.asarray(table.geometry.values), return_index=True)
    parts = _in_pixels(parts, reference, path)
    names = table[column].astype(str).to_numpy()[owner].tolist()
    if "difficult" not in table.columns:
        return parts, names, [0] * len(parts)
    found = table["difficult"].map(lambda value: 0 if value is None or value != value else value)
    wrong = [value for value in found if not _is_difficulty(value)]
    if wrong:
        raise DataError(
            f"'difficult' holds {str(wrong[0])[:40]!r}; expected whole numbers from 0 on",
            where=path,
            fix="0: easy, 1: difficult",
        )
    return parts, names, found.astype(int).to_numpy()[owner].tolist()


def class_names(path: Path, column: str = "class") -> set[str]:
    """Return the classes of the polygons of a label file.

    Args:
        path: Any vector file that OGR reads.
        column: The column of class names.

    Raises:
        DataError: As for :func:`read_labelled_polygons`.
    """
    return set(read_labelled_polygons(path, GeoReference(), column)[1])


def _is_difficulty(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and float(value) in range(_HARDEST + 1)


def _in_pixels(shapes: NDArray[Any], reference: GeoReference, path: Path) -> NDArray[Any]:
    """Return shapes in pixel edges of a raster; without a transform they are in pixels already.

    Raises:
        DataError: A coordinate has no place in the CRS of the raster, or one far beyond every raster.
    """
    places = shapely.get_coordinates(shapes)
    with np.errstate(invalid="ignore", over="ignore"):
        if reference.transform is not None:
            places = reference.crs_to_pixel_edges(places)
        bad = ~(np.abs(places) < _FAR).all(axis=1)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} of {len(places)} coordinates have no place in the raster's pixels",
            where=path,
            fix="check the file's CRS: its coordinates must be of the part of the earth that the CRS is for",
        )
    return np.asarray(shapely.set_coordinates(shapes.copy(), places), dtype=object)


def _read_table(path: Path, reference: GeoReference, kinds: Sequence[str], content: str) -> GeoDataFrame:
    """Return the shapes of some kinds that are not empty, in the CRS of a raster."""
    import geopandas
    import pyogrio
    import pyproj

    try:
        table = geopandas.read_file(path)
        if isinstance(table, geopandas.GeoDataFrame) and None not in (table.crs, reference.crs):
            table = table.to_crs(reference.crs)
    except (
        pyogrio.errors.DataSourceError,
        pyogrio.errors.DataLayerError,
        shapely.errors.ShapelyError,
        pyproj.exceptions.ProjError,
        ValueError,
    ) as error:
        raise DataError(f"the {content} cannot be read: {error}", where=path) from error
    if not isinstance(table, geopandas.GeoDataFrame):
        raise DataError(f"the {content} cannot be read: there is no geometry", where=path)
    table = table[table.geometry.notna() & table.geometry.geom_type.isin(kinds)]
    return table[~table.geometry.is_empty]


def write_vectors(
    features: Features,
    reference: GeoReference,
    path: Path,
    *,
    format_: str,
    layer: str,
    colours: Colours = (),
    changed: float = 0.0,
    digits: int | None = None,
) -> list[Path]:
    """Write features; every file appears whole or not at all.

    Args:
        features: In pixel edges of the scene.
        reference: Of the scene.
        path: The file.
        format_: One of ``gpkg``, ``geojson``, ``parquet``, ``fgb``, ``shp``.
        layer: Name of the layer.
        colours: Class names and colours of the style that goes with a GeoPackage, and of ``<path>.qml``.
        changed: Time (seconds since 1970) that a GeoPackage records, so that equal content gives equal bytes.
        digits: Decimals of coordinates in GeoJSON; GDAL's 7 (1 cm) when not given.

    Returns:
        The files written, the main one first.

    Raises:
        ConfigError: The format needs a CRS and the scene has none.
        DataError: The file cannot be written.
    """
    if format_ == "geojson" and not reference.is_referenced:
        by_points = reference.crs is not None and reference.gcps > 0
        raise ConfigError(
            f"GeoJSON holds longitude and latitude, and the scene has no "
            f"{'CRS' if reference.crs is None else 'transform'}",
            where=path,
            fix="choose -f gpkg, or warp the scene by its control points (gdalwarp SCENE WARPED.tif)"
            if by_points
            else "choose -f gpkg, or give the scene its CRS (gdal_edit.py -a_srs EPSG:n SCENE)",
        )
    table = to_table(features, reference)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    _remove(_files_of(aside, format_))
    try:
        write = _WRITERS[format_]
        if format_ == "geojson" and digits is not None:
            write = _write_ogr("GeoJSON", RFC7946="YES", COORDINATE_PRECISION=digits)
        write(table, aside, layer, changed)
        if format_ == "gpkg" and colours:
            _add_style(aside, layer, colours, changed)
        written = [part for part in _files_of(aside, format_) if part.exists()]
        for part in written:
            part.replace(path.with_suffix(part.suffix))
    except (OSError, sqlite3.Error) as error:
        raise DataError(
            f"the file cannot be written: {getattr(error, 'strerror', None) or error}",
            where=path,
            fix="free some space or choose another folder (-o); a second call continues",
        ) from error
    finally:
        _remove(_files_of(aside, format_))
    files = [path, *(path.with_suffix(part.suffix) for part in written if part.suffix != path.suffix)]
    if colours and format_ != "parquet":
        style = path.with_suffix(".qml")
        style.write_text(vector_style(colours), encoding="utf-8")
        files.append(style)
    return files


def _files_of(path: Path, format_: str) -> list[Path]:
    return [path.with_suffix(suffix) for suffix in _SHAPEFILE_PARTS] if format_ == "shp" else [path]


def _remove(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
        file.with_name(f"{file.name}-journal").unlink(missing_ok=True)  # SQLite's, of a GeoPackage


def _counter_clockwise(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Orient outer rings counter-clockwise and holes clockwise, as RFC 7946 and OGC ask for."""
    return np.asarray(shapely.reverse(shapely.normalize(shapes)))  # normalised: outer rings clockwise


def _measures(
    shapes: NDArray[np.object_], axes: NDArray[np.float64] | None, reference: GeoReference
) -> dict[str, NDArray[np.float64]]:
    count = len(shapes)
    missing = np.full(count, np.nan)
    columns = {"area_m2": missing}
    if axes is not None:
        columns.update(length_m=missing, width_m=missing, bearing=missing)
    if not reference.is_referenced or count == 0:
        return columns
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    crs = CRS.from_user_input(reference.crs)
    geod = crs.get_geod()
    if geod is None or crs.geodetic_crs is None:
        return columns
    try:
        to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    except ProjError:
        return columns
    columns["area_m2"] = _areas(shapes, geod, to_degrees)
    if axes is not None:
        ends = reference.pixel_edges_to_crs(axes)
        lon, lat = to_degrees.transform(ends[..., 0], ends[..., 1])
        azimuth, _, metres = geod.inv(lon[..., 0], lat[..., 0], lon[..., 1], lat[..., 1])
        columns.update(length_m=metres[:, 0], width_m=metres[:, 1], bearing=np.mod(azimuth[:, 0], 180.0))
    return columns


def _areas(shapes: NDArray[np.object_], geod: Any, to_degrees: Any) -> NDArray[np.float64]:
    """Return geodesic areas: outer rings less holes, whatever the direction of the rings."""
    parts, owner = shapely.get_parts(shapes, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    outer = np.ones(len(rings), dtype=bool)
    outer[1:] = part[1:] != part[:-1]
    points, ring = shapely.get_coordinates(rings, return_index=True)
    lon, lat = to_degrees.transform(points[:, 0], points[:, 1])
    limits = np.searchsorted(ring, np.arange(len(rings) + 1))
    areas = np.zeros(len(shapes))
    for index in range(len(rings)):
        place = slice(limits[index], limits[index + 1])
        area = abs(geod.polygon_area_perimeter(lon[place], lat[place])[0])
        areas[owner[part[index]]] += area if outer[index] else -area
    return areas


def _write_ogr(driver: str, **options: Any) -> Callable[[Any, Path, str, float], None]:
    def write(table: Any, path: Path, layer: str, changed: float) -> None:
        import pyogrio

        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _time_stamp(changed)})
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*'crs' was not provided.*")
                pyogrio.write_dataframe(
                    table,
                    path,
                    driver=driver,
                    layer=layer,
                    geometry_type=_kind(table),
                    promote_to_multi=False,
                    **options,
                )
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
            raise OSError(str(error)) from error
        finally:
            pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})

    return write


def _time_stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _kind(table: Any) -> str:
    kinds = set(table.geometry.geom_type)
    return "Polygon" if kinds <= {"Polygon"} else "Unknown" if len(kinds) > 1 else "MultiPolygon"


def _write_parquet(table: Any, path: Path, layer: str, changed: float) -> None:
    table.to_parquet(path, index=False)


_WRITERS: dict[str, Callable[[Any, Path, str, float], None]] = {
    "gpkg": _write_ogr("GPKG"),
    "geojson": _write_ogr("GeoJSON", RFC7946="YES"),
    "fgb": _write_ogr("FlatGeobuf"),
    "shp": _write_ogr("ESRI Shapefile", ENCODING="UTF-8"),
    "parquet": _write_parquet,
}


def _add_style(path: Path, layer: str, colours: Colours, changed: float) -> None:
    """Put the style into the GeoPackage as QGIS does: the table ``layer_styles``."""
    stamp = _time_stamp(changed)
    with sqlite3.connect(path) as base:
        base.execute(
            "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
            "f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), "
            "f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
            "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"
        )
        base.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
            "styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES ('', '', ?, 'geom', ?, ?, '', 1, '', '', NULL, ?)",
            (layer, layer, vector_style(colours), stamp),
        )
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
            (stamp,),
        )
    base.close()
