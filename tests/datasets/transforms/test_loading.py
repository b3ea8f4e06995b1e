"""Images that load, whatever their mode, and files that do not."""

import cv2
import numpy as np
import pytest
import tifffile

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.transforms.images import LoadImageFromFile


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3), (6, 9, 4)])
def test_any_mode_becomes_bgr(tmp_path, shape):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full(shape, 77, np.uint8))
    results = LoadImageFromFile().transform({"img_path": str(path)})
    assert results["img"].shape == (6, 9, 3) and results["img"].dtype == np.uint8
    assert results["img_shape"] == results["ori_shape"] == (6, 9)
    assert results["img"][0, 0, 0] == 77


def test_missing_and_corrupt_files_are_named(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(DataError, match="cannot be read") as caught:
        LoadImageFromFile().transform({"img_path": str(path)})
    assert caught.value.where == str(path)
    for content in (b"", b"\x89PNG broken"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{len(content)} bytes"):
            LoadImageFromFile().transform({"img_path": str(path)})


def test_tags_of_gdal_and_many_bands_print_nothing(tmp_path, capfd):
    """OpenCV's own decoder writes a warning for each unknown tag of each TIFF to the terminal."""
    path = tmp_path / "a.tif"
    bands = np.full((6, 9, 7), 77, np.uint8)
    tags = [(42112, "s", 0, "<GDALMetadata></GDALMetadata>", True), (42113, "s", 0, "0", True)]
    tifffile.imwrite(
        path, bands, photometric="rgb", planarconfig="contig", extrasamples=[0] * 4, extratags=tags
    )
    LoadImageFromFile(bands=(1, 2, 3)).transform({"img_path": str(path)})
    captured = capfd.readouterr()
    assert captured.err == "" and "TIFF" not in captured.out
