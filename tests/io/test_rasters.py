"""Windows of images, decoded whole or read from rasters."""

import cv2
import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io.loading import ImageLoading


def open_pixels(path):
    return ImageLoading().open(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(30, 50), (30, 50, 3), (30, 50, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_kind_of_image_gives_eight_bit_colour(tmp_path, suffix, shape, kind):
    """With rasterio installed this compares it with OpenCV; without, both are OpenCV."""
    image = np.random.default_rng(1).integers(0, np.iinfo(kind).max, shape, endpoint=True).astype(kind)
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), image)
    pixels = open_pixels(path)
    assert (pixels.width, pixels.height) == (50, 30)
    expected = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    for x, y, side in ((0, 0, 16), (40, 20, 16), (0, 0, 64)):
        part = pixels.read(Window(x, y, side, side))
        assert part.dtype == np.uint8
        other = expected[y : y + side, x : x + side]
        assert part.shape == other.shape
        # from 16 bit OpenCV cuts off the lower byte, or rounds it, by the kind of file
        assert np.abs(part.astype(int) - other).max() <= (kind is np.uint16)


def test_several_bands_of_a_raster_and_other_numbers(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "five.tif"
    bands = np.random.default_rng(2).integers(0, 256, (5, 8, 9)).astype(np.uint8)
    options = dict(driver="GTiff", width=9, height=8)
    with rasterio.open(path, "w", count=5, dtype="uint8", **options) as raster:
        raster.write(bands)
    part = open_pixels(path).read(Window(1, 2, 4, 4))
    assert np.array_equal(part, bands[2::-1, 2:6, 1:5].transpose(1, 2, 0))
    with rasterio.open(path, "w", count=1, dtype="float32", **options) as raster:
        raster.write(bands[:1].astype(np.float32))
    with pytest.raises(DataError, match="float32"):
        open_pixels(path)
    with rasterio.open(path, "w", count=1, dtype="uint8", photometric="palette", **options) as raster:
        raster.write(bands[:1])
        raster.write_colormap(1, {number: (number, 0, 0) for number in range(256)})
    with pytest.raises(DataError, match="palette"):
        open_pixels(path)


@pytest.mark.parametrize("name", ["broken.png", "broken.tif"])
def test_what_is_no_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"II*\0 nothing")
    with pytest.raises(DataError, match=name):
        open_pixels(tmp_path / name)
