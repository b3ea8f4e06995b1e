"""Whatever a vector file holds, reading its labels returns polygons or raises a DataError that names it."""

import json

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsfoundation.core.errors import DataError
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import read_labelled_polygons, read_polygons

SOUND = json.dumps(
    dict(
        type="FeatureCollection",
        crs=dict(type="name", properties=dict(name="urn:ogc:def:crs:EPSG::32633")),
        features=[
            dict(
                type="Feature", properties={"class": "ship", "difficult": 1},
                geometry=dict(type="Polygon", coordinates=[[[3, -2], [9, -2], [9, -8], [3, -8], [3, -2]]]),
            ),
            dict(
                type="Feature", properties={"class": "plane", "difficult": 0},
                geometry=dict(
                    type="MultiPolygon",
                    coordinates=[[[[1, -1], [2, -1], [2, -2], [1, -1]]], [[[5,-5], [6,-5], [6,-6], [5,-5]]]],
                ),
            ),
        ],
    )
)  # fmt: skip
ON_THE_GROUND = GeoReference("EPSG:32633", (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
IN_PIXELS = GeoReference()
WORDS = st.sampled_from(
    ["nan", "1e999", "null", "[]", "{}", '"x"', "true", "-1", "4326", "LineString", "Point", "\x00"]
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The bytes of a sound GeoPackage."""
    file = tmp_path_factory.mktemp("sound") / "a.gpkg"
    table = geopandas.GeoDataFrame(
        {"class": ["ship"], "difficult": [1]}, geometry=[shapely.box(1, -9, 4, -2)], crs="EPSG:32633"
    )
    table.to_file(file, layer="labels")
    return file.read_bytes()


def edits(text):
    """Return a strategy of texts that are truncated, or have a part replaced by a word of another type."""
    places = st.integers(0, len(text))
    changed = st.tuples(places, st.integers(0, 12), WORDS).map(
        lambda e: text[: e[0]] + e[2] + text[e[0] + e[1] :]
    )
    values = st.tuples(st.sampled_from(["3", "-2", '"ship"', "1", "32633", '"Polygon"', "[[[3, -2]"]), WORDS)
    return st.one_of(
        places.map(lambda end: text[:end]), changed, values.map(lambda v: text.replace(v[0], v[1], 1))
    )


def read_both(path):
    for reference in (ON_THE_GROUND, IN_PIXELS):
        try:
            shapes, names, hard = read_labelled_polygons(path, reference)
        except DataError as error:
            assert path.name in str(error.where)
        else:
            assert len(shapes) == len(names) == len(hard)
            assert np.isfinite(shapely.get_coordinates(shapes)).all()
    try:
        read_polygons(path, ON_THE_GROUND)
    except DataError as error:
        assert path.name in str(error.where)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=edits(SOUND))
def test_geojson(tmp_path, content):
    path = tmp_path / "label.geojson"
    path.write_text(content, encoding="utf-8")
    read_both(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 100_000), bad=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_geopackage(tmp_path, package, place, bad, cut):
    path = tmp_path / "label.gpkg"
    place %= len(package)
    path.write_bytes(package[:place] if cut else package[:place] + bad + package[place + len(bad) :])
    read_both(path)


def test_sound_files_are_read(tmp_path, package):
    (tmp_path / "a.geojson").write_text(SOUND)
    shapes, names, hard = read_labelled_polygons(tmp_path / "a.geojson", ON_THE_GROUND)
    assert names == ["ship", "plane", "plane"] and hard == [1, 0, 0]
    assert shapely.bounds(shapes[0]).tolist() == [3, 2, 9, 8]
    (tmp_path / "a.gpkg").write_bytes(package)
    shapes, names, hard = read_labelled_polygons(tmp_path / "a.gpkg", ON_THE_GROUND)
    assert names == ["ship"] and hard == [1] and shapely.bounds(shapes[0]).tolist() == [1, 2, 4, 9]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"difficult": 1', '"difficult": "very"', "difficult"),
        ('"difficult": 1', '"difficult": -4', "difficult"),
        ("[9, -8]", "[1e308, -8]", "coordinate"),
        ("EPSG::32633", "EPSG::4326", "coordinate"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, what):
    """Text in place of a number, and places that the CRS of the raster cannot hold."""
    path = tmp_path / "a.geojson"
    path.write_text(SOUND.replace(old, new).replace("[3, -2]", "[3, -95]" if "4326" in new else "[3, -2]"))
    with pytest.raises(DataError, match=what) as caught:
        read_labelled_polygons(path, ON_THE_GROUND)
    assert "a.geojson" in str(caught.value.where)
