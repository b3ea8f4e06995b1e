"""Image files of every kind come out as 8-bit colour."""

import cv2
import numpy as np
import pytest
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.io.loading import ImageLoading

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (40, 60, 4), dtype=np.uint8)


def decode_image(path):
    return ImageLoading().read(path)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_colour_and_grey(tmp_path, suffix):
    lossless = {"lossless": True} if suffix == ".webp" else {}
    colour = decode_image(save(tmp_path / f"a{suffix}", RGBA[..., :3], **lossless))
    assert np.array_equal(colour, RGBA[..., 2::-1]) and colour.dtype == np.uint8
    if suffix != ".webp":
        grey = decode_image(save(tmp_path / f"b{suffix}", RGBA[..., 0]))
        assert np.array_equal(grey, np.repeat(RGBA[..., :1], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_fourth_band_leaves_the_colours_alone(tmp_path, suffix):
    """GDAL marks the near infrared of four bands as transparency."""
    image = decode_image(save(tmp_path / f"a{suffix}", RGBA))
    assert np.array_equal(image, RGBA[..., 2::-1]) and image.flags.c_contiguous
    two = decode_image(save(tmp_path / f"b{suffix}", RGBA[..., :2]))
    assert np.array_equal(two, np.repeat(RGBA[..., :1], 3, axis=2))


def test_an_image_too_large_for_pillow_is_not_read_with_wrong_colours(tmp_path, monkeypatch):
    four, three = save(tmp_path / "a.tif", RGBA), save(tmp_path / "b.tif", RGBA[..., :3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(decode_image(four), RGBA[..., 2::-1])
    assert np.array_equal(decode_image(three), RGBA[..., 2::-1])


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    wide = RGBA[..., :3].astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "a.tif"), wide) and cv2.imwrite(str(tmp_path / "b.png"), wide)
    for name in ("a.tif", "b.png"):
        assert np.array_equal(decode_image(tmp_path / name), RGBA[..., :3])


def test_what_opencv_refuses_pillow_reads(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", RGBA[..., :3])
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert np.array_equal(decode_image(path), RGBA[..., 2::-1])


@pytest.mark.parametrize("content", [b"", b"nothing", b"II*\0 nothing", b"\x89PNG\r\n\x1a\n" + b"0" * 50])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"no readable image.*\(\d+ bytes\)") as caught:
        decode_image(tmp_path / "a.tif")
    assert caught.value.where.endswith("a.tif")
    with pytest.raises(DataError, match="cannot be read"):
        decode_image(tmp_path / "b.tif")


def test_a_cut_file_is_no_image(tmp_path):
    whole = save(tmp_path / "a.tif", RGBA[..., :3]).read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no readable image"):
        decode_image(tmp_path / "b.tif")
