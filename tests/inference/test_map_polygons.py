"""Polygons of a class map cover it exactly, on any grid."""

import numpy as np
import pytest

pytest.importorskip("rasterio")

import rasterio
import shapely
from rasterio.features import rasterize

from rsfoundation.core.task import Classes
from rsfoundation.inference import polygons

CLASSES = Classes(("field", "road", "roof"), ((0, 0, 0),) * 3)


def write_map(path, labels, transform):
    height, width = labels.shape
    profile = dict(driver="GTiff", height=height, width=width, count=1, dtype="uint8", nodata=255)
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=transform) as raster:
        raster.write(labels, 1)


@pytest.mark.parametrize("turn", [0.0, 30.0])
@pytest.mark.parametrize("batch", [1, 3, 4096])
def test_polygons_with_holes_burn_back_to_the_map(tmp_path, monkeypatch, turn, batch):
    monkeypatch.setattr(polygons, "_BATCH", batch)
    labels = np.random.default_rng(0).integers(0, 3, (17, 23)).astype(np.uint8)
    labels[2:12, 3:15] = 1
    labels[4:10, 5:13] = 2  # a hole of the one before
    labels[6:8, 7:9] = 255  # a hole without a polygon
    across, down = 0.5 * np.cos(np.radians(turn)), 0.5 * np.sin(np.radians(turn))
    affine = rasterio.Affine(across, -down, 500000.25, -down, -across, 5200000.75)
    write_map(tmp_path / "map.tif", labels, affine)
    found = polygons.map_polygons(tmp_path / "map.tif", CLASSES)
    assert shapely.is_valid(found.polygons).all() and shapely.get_num_interior_rings(found.polygons).max() > 0
    burnt = rasterize(
        zip(found.polygons, (found.columns["label"] + 1).tolist(), strict=True), out_shape=labels.shape
    )
    np.testing.assert_array_equal(burnt, np.where(labels == 255, 0, labels + 1))
    assert found.columns["pixels"].sum() == (labels != 255).sum()


def test_a_map_without_data_has_no_polygons(tmp_path):
    write_map(tmp_path / "map.tif", np.full((5, 5), 255, np.uint8), rasterio.Affine(1, 0, 0, 0, -1, 5))
    assert len(polygons.map_polygons(tmp_path / "map.tif", CLASSES).polygons) == 0
