"""Pictures written as PNG hold the pixels, whoever reads them, and are no larger than OpenCV's."""

import builtins
import importlib
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.io import png


def picture(rng, shape, dtype):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    smooth = (rows * 3 + columns * 5)[..., None] + rng.integers(0, 40, shape)
    return (smooth * (1 if dtype == np.uint8 else 211)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(40, 30, 3), (40, 30, 1), (1, 1, 3), (7, 1, 1)])
def test_pixels_come_back(tmp_path, shape, dtype):
    pixels = picture(np.random.default_rng(0), shape, dtype)
    png.write_picture(pixels, tmp_path / "a.png")
    found = np.atleast_3d(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED))
    assert found.dtype == dtype and np.array_equal(found[..., ::-1], pixels)


def test_a_view_is_written_as_it_looks(tmp_path):
    pixels = picture(np.random.default_rng(1), (60, 60, 3), np.uint8)[10:50, 5:35, ::-1]
    png.write_picture(pixels, tmp_path / "a.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], pixels)


def test_without_the_fast_library_zlib_writes_the_same_pixels(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name == "isal":
            raise ImportError(name)
        return real(name, *rest)

    pixels = picture(np.random.default_rng(2), (30, 30, 3), np.uint8)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", absent)
        plain = importlib.reload(png)
        plain.write_picture(pixels, tmp_path / "a.png")
        assert plain._compress is zlib.compress
    importlib.reload(png)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], pixels)


def test_files_are_not_larger_than_those_of_opencv(tmp_path):
    pixels = picture(np.random.default_rng(3), (256, 256, 3), np.uint8)
    png.write_picture(pixels, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 1.02 * len(cv2.imencode(".png", pixels[..., ::-1])[1])


def test_what_a_png_cannot_hold_is_refused(tmp_path):
    for pixels in (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        assert not png.holds(pixels)
        with pytest.raises(ValueError, match="cannot hold"):
            png.write_picture(pixels, tmp_path / "a.png")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot write") as caught:
        png.write_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / "none" / "a.png")
    assert "none" in str(caught.value.where)


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(1, 1), (512, 3), (1300, 70)])
def test_class_maps_of_several_blocks_are_one_valid_stream(tmp_path, shape, share):
    rng = np.random.default_rng(4)
    labels = np.where(rng.random(shape) < share, rng.integers(0, 7, shape), 3).astype(np.uint8)
    png.write_png(labels, tmp_path / "a.png", palette=((9, 9, 9),) * 7)
    with Image.open(tmp_path / "a.png") as read:
        read.load()
        assert read.mode == "P" and np.array_equal(np.asarray(read), labels)
    content = (tmp_path / "a.png").read_bytes()
    data, place = b"", 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        data += content[place + 8 : place + 8 + size] if content[place + 4 : place + 8] == b"IDAT" else b""
        place += 12 + size
    assert len(zlib.decompress(data)) == labels.size + len(labels)  # its checksum is right, too


def test_labels_that_change_often_are_compressed_by_runs():
    rng = np.random.default_rng(5)
    noisy, calm = rng.integers(0, 6, (256, 256)).astype(np.uint8), np.zeros((256, 256), np.uint8)
    calm[::2] = np.repeat(rng.integers(0, 6, (1, 8)), 32, axis=1)
    for labels in (noisy, calm):
        packed = png.deflate_labels(labels)
        assert zlib.decompress(packed) == labels.tobytes()
        assert len(packed) < 1.1 * len(zlib.compress(labels.tobytes(), 6))
    runs = zlib.compressobj(6, strategy=zlib.Z_RLE)
    assert png.deflate_labels(noisy) == runs.compress(noisy.tobytes()) + runs.flush()
