"""The georeferenced edition of the large toy scenes."""

import numpy as np
import pytest

pytest.importorskip("rasterio")

import rasterio

from rsfoundation.prepare.toy.make import BANDS, BORDER, make_geotiffs
from rsfoundation.prepare.toy.scene import GSD, Scene


def test_two_dates_with_crs_bands_and_a_border_without_data(tmp_path):
    files = make_geotiffs(tmp_path, 1, size=(160, 128))
    assert [file.name for file in files] == ["large_1_1.tif", "large_1_2.tif"]
    scene = Scene((0, "large", 1), 160, 128)
    grids = set()
    for date, file in enumerate(files):
        with rasterio.open(file) as made:
            assert made.crs.to_epsg() == 32633 and made.res == (GSD, GSD) and made.nodata == 0
            assert made.descriptions == BANDS
            grids.add(made.transform)
            bands, valid = made.read(), made.dataset_mask()
        assert not valid[:, :BORDER].any() and valid[:, BORDER:].all()
        picture = np.maximum(np.moveaxis(scene.image(date), 2, 0), 1)
        np.testing.assert_array_equal(bands[:3, :, BORDER:], picture[:, :, BORDER:])
    assert len(grids) == 1
    assert sorted(tmp_path.iterdir()) == [tmp_path / "geotiff"]
