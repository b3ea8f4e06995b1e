"""Pixels on the ground: transforms, pixel edges and centres, ground sampling distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raster_files import hide_rasterio, write_tiff

from rsfoundation.io.georeference import GeoReference, pixel_size_in_metres
from rsfoundation.io.rasters import RasterReader

SKEWED = (0.5, 0.1, 1000.0, -0.2, -0.4, 9000.0)


def test_the_georeference_of_a_tiff(tmp_path, raster_library):
    file = write_tiff(tmp_path / "a.tif", np.zeros((40, 60), np.uint8), crs="EPSG:32633")
    found = RasterReader(file).georeference
    assert found.crs == "EPSG:32633" and found.is_referenced
    assert found.transform == (0.5, 0.0, 500000.0, 0.0, -0.5, 5000000.0)
    assert found.ground_sampling_distance == (0.5, 0.5) and found.gcps == 0 and not found.has_rpcs


def test_degrees_become_metres_in_the_middle_of_the_raster(tmp_path, raster_library):
    pyproj = pytest.importorskip("pyproj")
    step = 1 / 3600
    file = write_tiff(
        tmp_path / "a.tif", np.zeros((400, 600), np.uint8), crs="EPSG:4326", origin=(10.0, 47.0), gsd=step
    )
    columns, rows = RasterReader(file).georeference.ground_sampling_distance
    middle = 47 - 200 * step
    ellipsoid = pyproj.Geod(ellps="WGS84")
    assert columns == pytest.approx(ellipsoid.inv(10, middle, 10 + step, middle)[2], rel=1e-6)
    assert rows == pytest.approx(ellipsoid.inv(10, middle - step / 2, 10, middle + step / 2)[2], rel=1e-6)


def test_a_raster_without_georeference(tmp_path, raster_library):
    file = write_tiff(tmp_path / "a.tif", np.zeros((4, 6), np.uint8))
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    for found in (RasterReader(file).georeference, RasterReader(tmp_path / "a.png").georeference):
        assert found == GeoReference() and not found.is_referenced
        with pytest.raises(ValueError, match="no transform"):
            found.pixel_edges_to_crs((0, 0))


@pytest.mark.parametrize("world", ["a.pgw", "a.pngw", "a.wld"])
def test_a_world_file_gives_the_centre_of_the_first_pixel(tmp_path, raster_library, world):
    if raster_library == "rasterio" and world == "a.pngw":
        pytest.skip("GDAL looks for the other two names")
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / world).write_text("2.0\n0.0\n0.0\n-2.0\n101.0\n199.0\n")
    found = RasterReader(tmp_path / "a.png").georeference
    assert found.transform == (2.0, 0.0, 100.0, 0.0, -2.0, 200.0) and found.crs is None


def test_control_points_and_rpcs_are_noted(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    points = [
        rasterio.control.GroundControlPoint(r, c, 500 + c, 900 - r) for r, c in ((0, 0), (0, 5), (3, 0))
    ]
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=6, height=4, count=1, dtype="uint8",
        gcps=points, crs="EPSG:32633",
    ) as raster:  # fmt: skip
        raster.write(np.zeros((1, 4, 6), np.uint8))
    found = RasterReader(tmp_path / "a.tif").georeference
    assert found.gcps == 3 and found.transform is None and found.crs == "EPSG:32633"
    assert not found.is_referenced and not found.has_rpcs


def test_pixel_is_point_moves_by_half_a_pixel(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=6, height=4, count=1, dtype="uint8", crs="EPSG:32633",
        transform=rasterio.transform.from_origin(100, 200, 2, 2),
    ) as raster:  # fmt: skip
        raster.write(np.zeros((1, 4, 6), np.uint8))
        raster.update_tags(AREA_OR_POINT="Point")
    expected = RasterReader(tmp_path / "a.tif").georeference
    assert expected.transform == (2.0, 0.0, 100.0, 0.0, -2.0, 200.0)
    hide_rasterio(monkeypatch)
    assert RasterReader(tmp_path / "a.tif").georeference == expected


def test_edges_and_centres_differ_by_half_a_pixel():
    place = GeoReference("EPSG:32633", (2.0, 0.0, 100.0, 0.0, -2.0, 200.0))
    assert place.pixel_edges_to_crs((0, 0)).tolist() == [100, 200]
    assert place.pixel_centers_to_crs((0, 0)).tolist() == [101, 199]
    corners = np.array([[[0, 0], [6, 0]], [[6, 4], [0, 4]]])
    assert place.pixel_edges_to_crs(corners).tolist() == [[[100, 200], [112, 200]], [[112, 192], [100, 192]]]


def test_there_and_back_and_parts_of_a_raster():
    place = GeoReference("EPSG:32633", SKEWED, (0.5, 0.4))
    points = np.random.default_rng(0).uniform(-50, 400, (30, 2))
    assert np.allclose(place.crs_to_pixel_edges(place.pixel_edges_to_crs(points)), points)
    part = place.shifted(17, 31)
    assert np.allclose(part.pixel_edges_to_crs(points), place.pixel_edges_to_crs(points + np.array([17, 31])))
    coarse = part.scaled(2, 3)
    assert np.allclose(coarse.pixel_edges_to_crs(points), part.pixel_edges_to_crs(points * (2, 3)))
    assert coarse.ground_sampling_distance == (1.0, pytest.approx(1.2))
    with pytest.raises(ValueError, match="cannot be inverted"):
        GeoReference(None, (1.0, 2.0, 0.0, 2.0, 4.0, 0.0)).crs_to_pixel_edges((1, 1))


def test_the_sides_of_a_skewed_pixel():
    assert pixel_size_in_metres((3.0, 0.0, 0.0, 4.0, 2.0, 0.0), (5, 5), metres_per_unit=0.3048) == (
        pytest.approx(5 * 0.3048),
        pytest.approx(2 * 0.3048),
    )
    assert pixel_size_in_metres(SKEWED, (5, 5)) is None


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0, 2 * np.pi), st.floats(0.1, 60), st.floats(0.1, 60), st.floats(-0.7, 0.7), st.booleans(),
    st.sampled_from([(500000.25, 5200000.75), (166021.4, 0.0), (833978.6, 9329005.2), (-2e7, 1e7)]),
    st.floats(0, 30_000), st.floats(0, 30_000),
)  # fmt: skip
def test_pixels_survive_the_way_to_the_crs_and_back(turn, across, down, shear, south_up, corner, column, row):
    """Rotated, sheared and south-up grids, at the edges of UTM zones and of the world, within 1e-6 pixels."""
    cos, sin, up = np.cos(turn), np.sin(turn), 1 if south_up else -1
    transform = (across * cos, up * down * (shear * cos - sin), corner[0],
                 across * sin, up * down * (shear * sin + cos), corner[1])  # fmt: skip
    place = GeoReference("EPSG:32633", transform)
    there = place.pixel_edges_to_crs((column, row))
    back = place.crs_to_pixel_edges(there)
    assert np.abs(back - (column, row)).max() < 1e-6
