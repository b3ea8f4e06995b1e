"""Statistics of bands equal those of all pixels at once."""

import json

import numpy as np
import pytest
import tifffile
from check_samples import make_dota, save, texture

from rsfoundation.cli.app import main
from rsfoundation.core.errors import DataError
from rsfoundation.io.loading import ImageLoading
from rsfoundation.prepare.band_statistics import PERCENTILES, band_statistics, model_statistics
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


def write_land(tmp_path):
    """Images of 16 bit with four bands, their masks, and a config; return it and the pixels."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 5000, (40, 48, 4)).astype(np.uint16) for _ in range(2)]
    for folder in ("images", "masks"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    for number, image in enumerate(images):
        path = tmp_path / "train/images" / f"{number}.tif"
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
        save(tmp_path / "train/masks" / f"{number}.png", np.zeros((40, 48), np.uint8))
    config = tmp_path / "own.py"
    config.write_text(f"""
image_loading = dict(bands="all", pixel_range=(500, 4000))
train_dataloader = dict(
    dataset=dict(
        type="rsfoundation.MaskDataset", data_root={str(tmp_path)!r}, metainfo=dict(classes=("land",)),
        data_prefix=dict(img_path="train/images", seg_map_path="train/masks"),
        img_suffix=".tif", seg_map_suffix=".png",
        pipeline=[dict(type="rsfoundation.LoadImageFromFile")],
    )
)
""")
    return config, np.concatenate([image.reshape(-1, 4) for image in images]).astype(np.float64)


def test_a_config_gives_the_scale_that_its_model_sees(tmp_path, capsys):
    config, pixels = write_land(tmp_path)
    seen = np.rint(np.clip((pixels - 500) / 3500, 0, 1) * 255)
    mean, std = model_statistics(config, band_statistics(config))
    assert np.allclose(mean, seen.mean(0)) and np.allclose(std, seen.std(0))
    chosen = 'image_loading.bands="(4,2,1)"'  # red first, as mean and std are written
    assert np.allclose(
        model_statistics(config, band_statistics(config), "train", [chosen])[0], seen.mean(0)[[3, 1, 0]]
    )
    with pytest.raises(SystemExit):
        main(["info", "data", str(config), "--json", str(tmp_path / "out.json")])
    written = json.loads((tmp_path / "out.json").read_text())
    assert np.allclose(written["data_preprocessor"]["mean"], seen.mean(0), atol=1e-3)
    assert np.isclose(written["bands"][0]["mean"], pixels[:, 0].mean())  # the table: values of the files
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["info", "data", str(tmp_path / "train/images")])
    printed = " ".join(capsys.readouterr().out.split())
    assert "values are uint16" in printed and "pixel_range" in printed and "data_preprocessor" not in printed


def test_images_that_loading_leaves_as_they_are_are_read_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    config, _ = write_land(tmp_path)
    for number in range(2):
        image = rng.integers(0, 255, (40, 48, 3)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "train/images" / f"{number}.tif", image)
    calls, whole = [], ImageLoading.open
    monkeypatch.setattr(ImageLoading, "open", lambda *args: calls.append(args) or whole(*args))
    for pixel_range, opened in (("None", 0), ("(0,255)", 2)):
        options = [f"image_loading.pixel_range={pixel_range}"]
        stored = band_statistics(config, overrides=options)
        mean, std = model_statistics(config, stored, overrides=options)
        assert len(calls) == opened
        assert np.allclose(mean, [band.mean for band in stored])
        assert np.allclose(std, [band.std for band in stored])
