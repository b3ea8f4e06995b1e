"""From pixels of any kind to what a model takes: ranges, bands, order."""

import logging
import pickle

import numpy as np
import pytest
from raster_files import write_tiff

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.io import loading as loading_module
from rsfoundation.io.loading import ImageLoading, OpenImages, PixelRange, found_range, read_window
from rsfoundation.io.rasters import RasterReader

COLOURS = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def warnings(monkeypatch):
    """Return the list of warnings that follow."""
    monkeypatch.setattr(loading_module, "_WARNED", set())
    found = []
    monkeypatch.setattr(loading_module, "_warn", found.append)
    return found


@pytest.mark.parametrize(
    ("dtype", "factor", "offset"),
    [("uint16", 8, 0), ("uint16", 16, 1000), ("uint16", 257, 0), ("int16", 8, -700), ("float32", 1 / 255, 0)],
)
def test_a_declared_range_gives_the_picture_of_eight_bits(tmp_path, raster_library, dtype, factor, offset):
    """11 bit as WorldView, reflectances as Sentinel-2, the whole range, int16, 0..1."""
    values = (COLOURS.astype(np.float64) * factor + offset).astype(dtype)
    file = write_tiff(tmp_path / "a.tif", values, photometric="rgb")
    loading = ImageLoading(pixel_range=PixelRange.parse((offset, 255 * factor + offset)))
    assert np.array_equal(loading.read(file), COLOURS[..., ::-1])
    with loading.open(file) as image:
        assert np.array_equal(image.read(Window(7, 5, 20, 10)), COLOURS[5:15, 7:27, ::-1])
    exact = ImageLoading(pixel_range=loading.pixel_range, to_float32=True).read(file)
    assert exact.dtype == np.float32 and np.allclose(exact, COLOURS[..., ::-1], atol=1e-3)


def test_values_beyond_the_range_are_clipped_and_missing_ones_are_black(tmp_path):
    values = np.array([[-5.0, 0.0, 1.0, 7.0, np.nan]], np.float32)
    file = write_tiff(tmp_path / "a.tif", values)
    assert ImageLoading(pixel_range=PixelRange.parse("0,1")).read(file)[0, :, 0].tolist() == [
        0,
        0,
        255,
        255,
        0,
    ]


def test_one_range_per_band(tmp_path):
    values = np.dstack([COLOURS[..., 0].astype(np.uint16) * 4, COLOURS[..., 1].astype(np.uint16) * 9 + 50])
    file = write_tiff(tmp_path / "a.tif", values)
    loading = ImageLoading((1, 2), PixelRange.parse([(0, 1020), (50, 2345)]))
    assert np.array_equal(loading.read(file), COLOURS[..., :2])
    with pytest.raises(ConfigError, match="2 pairs, and 1 bands"):
        ImageLoading((1,), loading.pixel_range).read(file)


@pytest.mark.parametrize("wrong", ["", "3", "a,b", (1,), (1, 2, 3), [(1, 2), (3,)], (5, 5), (9, 2), None, 4])
def test_what_is_no_range_is_refused(wrong):
    with pytest.raises(ConfigError, match="range"):
        PixelRange.parse(wrong)


def test_ranges_are_spelt_in_three_ways():
    assert PixelRange.parse("0,2047") == PixelRange.parse((0, 2047)) == PixelRange.parse([[0, 2047]])


@pytest.mark.parametrize(("dtype", "divisor"), [("uint16", 256), ("int16", 128)])
def test_sixteen_bits_without_a_range_warn_once_with_the_values_found(tmp_path, warnings, dtype, divisor):
    values = COLOURS.astype(dtype) * 8
    for name in ("a", "b"):
        file = write_tiff(tmp_path / f"{name}.tif", values)
        assert np.array_equal(ImageLoading().read(file), (values // divisor).astype(np.uint8)[..., ::-1])
    (warning,) = warnings
    low, high = values.min(), values.max()
    assert f"{dtype} from {low} to {high}" in warning and "a.tif" in warning
    assert f"leaves {high // divisor + 1} levels" in warning
    assert f"pixel_range=({low}, {high})" in warning and f"--pixel-range {low},{high}" in warning


def test_the_range_found_is_that_of_the_whole_raster_without_its_nodata(tmp_path):
    values = np.full((3000, 2000), 700, np.uint16)
    values[-50:, -50:] = 900
    values[:200] = 65535
    assert found_range(RasterReader(write_tiff(tmp_path / "a.tif", values, nodata=65535))) == (700, 900)
    empty = write_tiff(tmp_path / "b.tif", values[:100], nodata=65535)
    assert found_range(RasterReader(empty)) == (0, 0)


def test_floats_without_a_range_are_refused_with_the_values_found(tmp_path, raster_library):
    file = write_tiff(tmp_path / "a.tif", (COLOURS / 255).astype(np.float32))
    with pytest.raises(
        DataError, match="float32 from 0 to 1; expected 8 or 16 bit, or a value range"
    ) as caught:
        ImageLoading().open(file)
    assert "pixel_range=(0, 1)" in caught.value.fix and caught.value.where == str(file)


def test_native_values_are_left_alone(tmp_path, raster_library):
    values = np.random.default_rng(0).normal(size=(9, 8, 5)).astype(np.float32)
    file = write_tiff(tmp_path / "a.tif", values)
    assert np.array_equal(ImageLoading("all", "native").read(file), values)


def test_three_bands_start_with_blue_and_others_do_not(tmp_path, raster_library):
    seven = np.random.default_rng(1).integers(0, 256, (20, 30, 7), dtype=np.uint8)
    file = write_tiff(tmp_path / "a.tif", seven, photometric="rgb")
    assert np.array_equal(ImageLoading((5, 2, 7)).read(file), seven[..., [6, 1, 4]])
    assert np.array_equal(ImageLoading((5, 2)).read(file), seven[..., [4, 1]])
    assert np.array_equal(ImageLoading((4,)).read(file), seven[..., 3:4])
    assert np.array_equal(ImageLoading("all").read(file), seven)
    assert np.array_equal(ImageLoading(("blue", "red", 6, 7)).read(file), seven[..., [2, 0, 5, 6]])


def test_bands_that_are_not_read_are_told_once(tmp_path, warnings):
    seven = np.random.default_rng(1).integers(0, 256, (20, 30, 7), dtype=np.uint8)
    for _ in range(2):
        image = ImageLoading().read(write_tiff(tmp_path / "a.tif", seven))
        assert np.array_equal(image, seven[..., 2::-1])
    two = ImageLoading().read(write_tiff(tmp_path / "b.tif", seven[..., :2]))
    assert np.array_equal(two, np.repeat(seven[..., :1], 3, axis=2))
    assert len(warnings) == 2 and "7 bands: bands 1, 2 and 3 are read" in warnings[0]
    assert "--bands 1,2,3" in warnings[0] and "2 bands: band 1 is read" in warnings[1]
    ImageLoading().read(write_tiff(tmp_path / "c.tif", seven[..., :4], photometric="rgb", alpha=2))
    assert len(warnings) == 2, "colours with alpha are nothing to speak of"


def test_warnings_reach_the_log(tmp_path, monkeypatch, caplog):
    from mmengine.logging import MMLogger

    monkeypatch.setattr(loading_module, "_WARNED", set())
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        ImageLoading().read(write_tiff(tmp_path / "a.tif", COLOURS.astype(np.uint16)))
    logger.removeHandler(caplog.handler)
    assert "no value range" in caplog.text


def test_a_window_at_the_edge_is_padded(tmp_path):
    file = write_tiff(tmp_path / "a.tif", COLOURS)
    patch = read_window(ImageLoading().open(file), 40, 30, 20)
    assert np.array_equal(patch[:10, :10], COLOURS[30:, 40:, ::-1])
    assert (patch[10:] == (104, 116, 124)).all() and (patch[:, 10:] == (104, 116, 124)).all()
    two = read_window(ImageLoading((1, 2)).open(file), 40, 30, 20)
    assert two.shape == (20, 20, 2) and not two[10:].any()


def test_open_images_pickle_with_their_loading_and_stay_few(tmp_path):
    files = [str(write_tiff(tmp_path / f"{i}.tif", COLOURS)) for i in range(70)]
    images = OpenImages(256, ImageLoading((2,)))
    for file in files:
        assert images.open(file).read().shape == (40, 50, 1)
    assert len(images._kept) <= 64, "a process may open only so many files"
    copy = pickle.loads(pickle.dumps(images))
    assert copy.loading == ImageLoading((2,)) and np.array_equal(
        copy.open(files[0]).read(), COLOURS[..., 1:2]
    )
    image = images.open(files[0])
    assert np.array_equal(pickle.loads(pickle.dumps(image)).read(), image.read())


def test_pictures_of_every_kind_of_pixels(tmp_path, raster_library):
    """A picture stretches what has no range, and shows what the model sees where it has one."""
    eight = write_tiff(tmp_path / "a.tif", COLOURS, photometric="rgb")
    assert np.array_equal(ImageLoading().picture(eight), COLOURS)
    stretched = COLOURS.astype(np.float64)
    stretched = np.rint((stretched - COLOURS.min()) * (255 / np.ptp(COLOURS)))
    for dtype, factor in (("uint16", 8), ("int16", 100), ("float32", 0.01), ("int32", 70000)):
        file = write_tiff(tmp_path / "b.tif", (COLOURS.astype(np.float64) * factor).astype(dtype))
        assert np.abs(ImageLoading().picture(file) - stretched).max() <= 1, dtype
    seven = np.concatenate([COLOURS, COLOURS, COLOURS[..., :1]], axis=2)
    file = write_tiff(tmp_path / "c.tif", seven.astype(np.uint16) * 8)
    loading = ImageLoading((6, 5, 4, 1), PixelRange.parse((0, 2040)))
    assert np.array_equal(loading.picture(file), COLOURS[..., ::-1])
    assert np.array_equal(ImageLoading((2,), loading.pixel_range).picture(file)[..., 2], COLOURS[..., 1])
    assert ImageLoading("all", "native").picture(file).shape == (40, 50, 3)
    assert ImageLoading().picture(file, max_side=25).shape == (20, 25, 3)
    flat = write_tiff(tmp_path / "d.tif", np.full((5, 5), 700, np.uint16))
    assert not ImageLoading().picture(flat).any()


def test_a_palette_raster_is_shown_in_its_colours(tmp_path):
    from PIL import Image

    picture = Image.fromarray(COLOURS).quantize(9)
    picture.save(tmp_path / "a.tif")
    assert np.array_equal(ImageLoading().picture(tmp_path / "a.tif"), np.asarray(picture.convert("RGB")))
