"""Image files of every kind come out as 8-bit colour."""

import cv2
import numpy as np
import pytest
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.rasters import RasterReader

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


LARGE = RNG.integers(0, 256, (200, 230, 4), dtype=np.uint8)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_usual_png_has_the_same_pixels_with_gdal_and_without(tmp_path, raster_library, monkeypatch, bands):
    path = save(tmp_path / "a.png", LARGE[..., 0] if bands == 1 else LARGE[..., :bands])
    if raster_library == "rasterio":
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded by OpenCV"))
    with RasterReader(path, range(1, bands + 1)) as reader:
        pixels = reader.read()
    assert np.array_equal(pixels, LARGE[..., :bands]) and pixels.flags.c_contiguous


def palette(path):
    picture = Image.fromarray(LARGE[..., :3]).quantize(9)
    picture.save(path)
    return np.asarray(picture.convert("RGB"))


def few_bits(path):
    black_and_white = Image.fromarray(LARGE[..., 0] > 99)
    black_and_white.save(path)
    return np.asarray(black_and_white.convert("L"))[..., None]


def transparent_colour(path):
    save(path, LARGE[..., :3], transparency=(1, 2, 3))
    return LARGE[..., :3]


@pytest.mark.parametrize("kind", [palette, few_bits, transparent_colour])
def test_an_unusual_png_has_the_same_pixels_with_gdal_and_without(tmp_path, raster_library, kind):
    expected = kind(tmp_path / "a.png")
    with RasterReader(tmp_path / "a.png") as reader:
        assert np.array_equal(reader.read(), expected)


def test_files_next_to_a_png_do_not_change_it(tmp_path, raster_library):
    path = save(tmp_path / "a.png", LARGE[..., :3])
    save(tmp_path / "a.png.msk", LARGE[..., 0], format="TIFF")
    (tmp_path / "a.png.aux.xml").write_text("<PAMDataset><broken>")
    assert np.array_equal(decode_image(path), LARGE[..., 2::-1])


def cut(content, rng):
    return content[: rng.integers(60, len(content))]


def zeroed(content, rng):
    place = int(rng.integers(60, len(content) - 4000))
    return content[:place] + bytes(4000) + content[place + 4000 :]


def without_a_part(content, rng):
    place = int(rng.integers(60, len(content) - 4000))
    return content[:place] + content[place + int(rng.integers(1, 4000)) :]


def with_more(content, rng):
    place = int(rng.integers(60, len(content) - 4000))
    return content[:place] + rng.bytes(1000) + content[place:]


@pytest.mark.parametrize("harm", [cut, zeroed, without_a_part, with_more])
def test_a_broken_png_is_no_image_with_gdal_and_without(tmp_path, raster_library, harm):
    """GDAL alone returns zeros, or rows of other places, for most of these."""
    rng = np.random.default_rng(3)
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), LARGE[..., :3])  # chunks of 8 KiB
    whole = path.read_bytes()
    for _ in range(5):
        path.write_bytes(harm(whole, rng))
        with pytest.raises(DataError, match="no readable image"):
            decode_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("loading", [ImageLoading(), ImageLoading(grey=True), ImageLoading("all", "native")])
def test_what_is_read_belongs_to_the_caller(tmp_path, raster_library, suffix, loading):
    """Steps write into images, and an open image keeps its pixels for the next window."""
    for name, array in (("colour", LARGE[..., :3]), ("grey", LARGE[..., 0])):
        with loading.open(save(tmp_path / f"{name}{suffix}", array)) as image:
            first, raw = image.read(), image.reader.read()
            expected = first.copy(), raw.copy()
            first[:], raw[:] = 0, 0
            assert np.array_equal(image.read(), expected[0])
            assert np.array_equal(image.reader.read(), expected[1])
