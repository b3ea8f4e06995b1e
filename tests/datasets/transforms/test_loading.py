"""Images that load, whatever their mode, and files that do not."""

import cv2
import numpy as np
import pytest

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
