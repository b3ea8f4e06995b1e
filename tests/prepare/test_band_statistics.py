"""Statistics of bands equal those of all pixels at once."""

import json

import numpy as np
import pytest
import tifffile
from check_samples import make_dota, save, texture

from rsfoundation.cli.app import main
from rsfoundation.core.errors import DataError
from rsfoundation.prepare.band_statistics import PERCENTILES, band_statistics
from rsfoundation.prepare.check import images as module


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_equal_to_numpy(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 4000)  # several blocks for each image
    rng = np.random.default_rng(0)
    low, high = {"uint8": (3, 200), "uint16": (90, 4000), "int16": (-500, 900), "float32": (-1, 1)}[dtype]
    images = [rng.uniform(low, high, (40, 30 + number, 4)).astype(dtype) for number in range(3)]
    for number, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"{number}.tif", image, photometric="minisblack", planarconfig="contig")
    pixels = np.concatenate([image.reshape(-1, 4) for image in images]).astype(np.float64)
    found = band_statistics(tmp_path)
    assert len(found) == 4 and found[0].pixels == len(pixels)
    for place, band in enumerate(found):
        values = pixels[:, place]
        assert np.allclose(
            (band.mean, band.std, band.low, band.high),
            (values.mean(), values.std(), values.min(), values.max()),
        )
        expected = np.percentile(values, PERCENTILES, method="inverted_cdf")
        assert np.allclose(list(band.percentiles.values()), expected, atol=0 if dtype != "float32" else 0.01)


def test_splits_of_a_folder(tmp_path, capsys):
    make_dota(tmp_path / "dota", train=3, val=1)
    found = band_statistics(tmp_path / "dota", "val")
    assert np.allclose([band.mean for band in found], texture(100).reshape(-1, 3).mean(0))
    with pytest.raises(SystemExit) as stop:
        main(["info", "data", str(tmp_path / "dota"), "--json", str(tmp_path / "out.json")])
    assert stop.value.code == 0 and "data_preprocessor" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["bands"][0]["pixels"] == 4 * 96 * 96
    with pytest.raises(DataError, match="no image of the split"):
        band_statistics(tmp_path / "dota", "test")


def test_images_of_two_kinds(tmp_path):
    save(tmp_path / "a.png", texture(1))
    save(tmp_path / "b.png", texture(1)[..., 0])
    with pytest.raises(DataError, match="1 bands of uint8; the first image has 3"):
        band_statistics(tmp_path)
