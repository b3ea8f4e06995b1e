"""Measures of objects on the ground, against geodesics and areas made another way."""

import numpy as np
import pytest

pytest.importorskip("pyogrio")
pytest.importorskip("geopandas")

import geopandas
import pyogrio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer

from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import Features, box_features, to_table, write_vectors

# Every CRS with a corner that is far inside, at a border or beyond a border of where it is used.
PLACES = [
    ("EPSG:32633", 500000.25, 5200000.75, 1.0),  # the zone's meridian
    ("EPSG:32633", 166021.4, 3000.0, 1.0),  # a zone's western edge, at the equator
    ("EPSG:32733", 833978.6, 9_000_000.0, 1.0),  # a zone's eastern edge, south
    ("EPSG:32660", 720_000.0, 7_000_000.0, 1.0),  # next to the antimeridian
    ("EPSG:3857", 1_000_000.0, 8_000_000.0, 1.0),  # metres that are none: twice as long as on the ground
    ("EPSG:3413", 300_000.0, -1_200_000.0, 1.0),  # polar, turned by its longitude
    ("EPSG:4326", 12.5, 48.25, 1e-5),
    ("EPSG:2263", 980_000.0, 200_000.0, 3.0),  # feet
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLACES), st.floats(0.1, 20), st.floats(0, 2 * np.pi), st.booleans(),
    st.floats(0, 2000), st.floats(0, 2000), st.floats(20, 300), st.floats(0.1, 0.9),
    st.floats(-np.pi / 2, np.pi / 2),
)  # fmt: skip
def test_sides_areas_and_bearings_are_those_of_the_ellipsoid(
    spot, pixel, turn, south_up, cx, cy, long, share, theta
):
    """Of oriented boxes on turned and mirrored grids; expected values come from points on each outline."""
    code, east, north, unit = spot
    size, cos, sin = pixel * unit, np.cos(turn), np.sin(turn)
    up = 1 if south_up else -1
    transform = (size * cos, -up * size * sin, east, size * sin, up * size * cos, north)
    place = GeoReference(code, transform)
    short = long * share
    table = to_table(box_features(np.array([[cx, cy, long, short, theta]]), {}), place)
    crs = CRS.from_user_input(code)
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    geod = crs.get_geod()
    middle = np.array([cx + 0.5, cy + 0.5])
    axis, other = np.array([np.cos(theta), np.sin(theta)]), np.array([-np.sin(theta), np.cos(theta)])

    def degrees(points):
        return to_degrees.transform(*place.pixel_edges_to_crs(np.asarray(points)).T)

    for direction, length, column in ((axis, long, "length_m"), (other, short, "width_m")):
        steps = np.linspace(-0.5, 0.5, 33)[:, None]  # along the straight line of the grid
        assert table[column][0] == pytest.approx(
            geod.line_length(*degrees(middle + steps * length * direction)), rel=1e-5
        )
    lon, lat = degrees([middle - axis * long / 2, middle, middle + axis * long / 2])
    bearing = geod.inv(lon[0], lat[0], lon[2], lat[2])[0]
    assert abs((table["bearing"][0] - bearing + 90) % 180 - 90) < 1e-6
    assert 0 <= table["bearing"][0] < 180
    corners = [
        middle + sx * axis * long / 2 + sy * other * short / 2
        for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    outline = shapely.segmentize(shapely.Polygon(corners), long / 16)
    area = abs(geod.polygon_area_perimeter(*degrees(shapely.get_coordinates(outline)))[0])
    # PROJ rounds areas by some cm² for each corner
    assert table["area_m2"][0] == pytest.approx(area, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("turned", [False, True])
def test_holes_are_subtracted_whatever_their_direction(turned):
    hole = [(20, 20), (20, 40), (40, 40), (40, 20)]
    outer = shapely.Polygon([(0, 0), (100, 0), (100, 100), (0, 100)])
    ring = shapely.Polygon(outer.exterior, [hole[::-1] if turned else hole])
    parts = shapely.MultiPolygon([ring, shapely.box(200, 200, 210, 210)])
    place = GeoReference("EPSG:32633", (1.0, 0.0, 500000.0, 0.0, -1.0, 5200000.0))
    shapes = np.array([outer, ring, parts], dtype=object)
    areas = to_table(Features(shapes), place)["area_m2"] * 0.9996**2  # the zone's scale on its meridian
    assert areas.tolist() == pytest.approx([10_000, 9_600, 9_700], rel=1e-5)


def test_an_object_across_the_antimeridian_has_its_own_area():
    place = GeoReference("EPSG:4326", (0.001, 0.0, 179.9, 0.0, -0.001, -16.0))
    table = to_table(box_features(np.array([[99.5, 50, 60, 20, 0]]), {}), place)
    expected, _ = Geod(ellps="WGS84").polygon_area_perimeter(
        [179.97, -179.97, -179.97, 179.97], [-16.0605, -16.0605, -16.0405, -16.0405]
    )
    assert table["area_m2"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["gpkg", "geojson", "parquet", "fgb", "shp"])
def test_rows_keep_their_order_and_their_numbers(tmp_path, kind):
    """GeoPackage sorts by a column ``fid`` and FlatGeobuf by place: ``id`` says the order of the scene."""
    rng = np.random.default_rng(5)
    boxes = np.column_stack([rng.uniform(0, 5000, (300, 2)), np.tile([20, 10, 0.3], (300, 1))])
    score = np.sort(rng.uniform(0.3, 1, 300))[::-1]
    place = GeoReference("EPSG:32633", (0.5, 0.0, 500000.25, 0.0, -0.5, 5200000.75))
    file = tmp_path / f"objects.{kind}"
    write_vectors(box_features(boxes, {"score": score}), place, file, format_=kind, layer="objects")
    table = geopandas.read_parquet(file) if kind == "parquet" else geopandas.read_file(file)
    if kind != "fgb":
        assert table["id"].tolist() == list(range(1, 301))
    if kind == "gpkg":
        rows = pyogrio.read_dataframe(file, fid_as_index=True)
        assert rows.index.tolist() == rows["id"].tolist() and "fid" not in map(str.lower, rows.columns)
    table = table.sort_values("id", ignore_index=True).to_crs("EPSG:32633")
    assert np.allclose(table["score"], score, atol=1e-6)
    middles = place.pixel_edges_to_crs(boxes[:, :2] + 0.5)
    assert np.abs(np.column_stack([table.centroid.x, table.centroid.y]) - middles).max() < 0.02
