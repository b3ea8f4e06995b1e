"""Splits by scene, grid and region share nothing."""

import numpy as np
import pytest
from check_samples import save, texture

from rsfoundation.cli.app import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.prepare.split import split_images


def lines(made):
    return {name: path.read_text().split() for name, path in made.files.items()}


def test_scenes_stay_together(tmp_path):
    for scene in range(10):
        for x in (0, 48):
            save(tmp_path / "images" / f"P{scene}__96__{x}___0.png", texture(scene, 32))
    made = split_images(tmp_path / "images", tmp_path / "lists", shares=(0.6, 0.2, 0.2))
    found = lines(made)
    assert (
        {name: len(names) for name, names in found.items()}
        == {"train": 12, "val": 4, "test": 4}
        == made.images
    )
    scenes = [{name.split("__")[0] for name in names} for names in found.values()]
    assert sum(map(len, scenes)) == len(set.union(*scenes)) == 10
    assert lines(split_images(tmp_path / "images", tmp_path / "lists", shares=(0.6, 0.2, 0.2))) == found
    assert (
        lines(split_images(tmp_path / "images", tmp_path / "lists", shares=(0.6, 0.2, 0.2), seed=1)) != found
    )


@pytest.fixture
def scattered(tmp_path):
    """Tiles of 32 m: two rows of overlapping ones, and single ones far apart."""
    rasterio = pytest.importorskip("rasterio")
    places = [(x, 0) for x in range(0, 160, 16)] + [(5000 + 2000 * number, 3000) for number in range(10)]
    for number, (x, y) in enumerate(places):
        transform = rasterio.Affine(1, 0, 500_000 + x, 0, -1, 5_200_000 + y)
        profile = dict(driver="GTiff", width=32, height=32, count=1, dtype="uint8", crs="EPSG:32633")
        (tmp_path / "images").mkdir(exist_ok=True)
        with rasterio.open(
            tmp_path / "images" / f"{number:02d}.tif", "w", transform=transform, **profile
        ) as file:
            file.write(np.full((1, 32, 32), number, np.uint8))
    return tmp_path


@pytest.mark.parametrize("by", ["grid", "region"])
def test_overlapping_extents_stay_together(scattered, by):
    made = split_images(scattered / "images", scattered / "lists", by=by, shares=(0.5, 0.5), block=64)
    row = {f"{number:02d}" for number in range(10)}
    parts = [row & set(names) for names in lines(made).values()]
    assert sorted(map(len, parts)) == [0, 10] and sum(made.images.values()) == 20


def test_what_cannot_be_split(tmp_path):
    save(tmp_path / "images/a.png", texture(1, 32))
    with pytest.raises(DataError, match="too few for 2 splits"):
        split_images(tmp_path / "images", tmp_path)
    with pytest.raises(DataError, match="no CRS"):
        split_images(tmp_path / "images", tmp_path, by="region")
    with pytest.raises(ConfigError, match="shares"):
        split_images(tmp_path / "images", tmp_path, shares=(1.0,))
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "split", str(tmp_path / "images"), "-o", str(tmp_path), "--shares", "much"])
    assert stop.value.code == 2
