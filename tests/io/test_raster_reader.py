"""Rasters of every kind come out the same by windows, with rasterio and without."""

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image
from raster_files import hide_rasterio, write_tiff

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io import raster_formats, rasters
from rsfoundation.io.rasters import RasterReader, image_size

RNG = np.random.default_rng(5)
PART = Window(13, 7, 20, 31)


def pixels(count, dtype="uint8", height=47, width=53):
    values = RNG.integers(0, 250, (height, width, count))
    return (values if dtype == "uint8" else values * 20 - (90 if dtype == "int16" else 0)).astype(dtype)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_bands_are_those_of_the_file_whatever_its_tags_call_them(
    tmp_path, raster_library, count, dtype, photometric
):
    if photometric == "rgb" and count < 3:
        pytest.skip("no colours")
    made = pixels(count, dtype)
    layouts = [{}, {"tile": (16, 32)}, {"compression": "zlib", "rowsperstrip": 5}]
    layouts += (
        [{"planar": True}, {"planar": True, "tile": (16, 16), "compression": "zlib"}] if count > 1 else []
    )
    layouts += [{"byteorder": ">"}] if dtype != "uint8" else []
    for layout in layouts:
        file = write_tiff(tmp_path / "a.tif", made, photometric=photometric, alpha=0, **layout)
        with RasterReader(file) as raster:
            assert (raster.width, raster.height, raster.count) == (53, 47, count)
            assert raster.dtype == dtype and raster.read().dtype == dtype
            assert np.array_equal(raster.read(), made), layout
            assert np.array_equal(raster.read(PART), made[7:38, 13:33]), layout
            assert raster.valid_mask(PART).all()


@pytest.mark.parametrize("compress", ["lzw", "zstd", "packbits", "deflate"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_compressions_of_gdal_are_read_without_it(tmp_path, monkeypatch, count, compress):
    rasterio = pytest.importorskip("rasterio")
    for dtype in ("uint8", "uint16"):
        made = pixels(count, dtype)
        for layout in (
            {"interleave": "pixel"},
            {"interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 16},
        ):
            predictor = {} if compress == "packbits" else {"predictor": 2}
            with rasterio.open(
                tmp_path / "a.tif", "w", driver="GTiff", width=53, height=47, count=count, dtype=dtype,
                compress=compress, **layout, **predictor,
            ) as raster:  # fmt: skip
                raster.write(np.moveaxis(made, 2, 0))
            with monkeypatch.context() as hidden:
                hide_rasterio(hidden)
                found = RasterReader(tmp_path / "a.tif")
                assert found.windowed
                assert np.array_equal(found.read(), made)
                assert np.array_equal(found.read(PART), made[7:38, 13:33])


def test_jpeg_in_tiff_is_decoded_whole_without_rasterio(tmp_path, monkeypatch):
    smooth = cv2.GaussianBlur(pixels(3), (0, 0), 6)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg", quality=95)
    hide_rasterio(monkeypatch)
    raster = RasterReader(tmp_path / "a.tif")
    assert not raster.windowed and raster.held == smooth.nbytes
    assert np.abs(raster.read(PART).astype(int) - smooth[7:38, 13:33]).max() < 12


def test_what_only_rasterio_reads_is_named_with_the_command(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=53, height=47, count=5, dtype="float32",
        compress="deflate", predictor=3,
    ) as raster:  # fmt: skip
        raster.write(np.moveaxis(pixels(5, "float32"), 2, 0))
    hide_rasterio(monkeypatch)
    with pytest.raises(DataError, match="only rasterio reads") as caught:
        RasterReader(tmp_path / "a.tif")
    assert "pip install 'rsfoundation[geo]'" in caught.value.fix and caught.value.where.endswith("a.tif")


def test_bands_by_number_and_name(tmp_path, raster_library):
    made = pixels(4)
    file = write_tiff(tmp_path / "a.tif", made, names=["B02", "B03", "B04", "B08"])
    assert RasterReader(file).band_names == ("B02", "B03", "B04", "B08")
    assert np.array_equal(RasterReader(file, (4, "b03", 1)).read(), made[..., [3, 1, 0]])
    for wrong in (0, 5, "B05", "nir"):
        with pytest.raises(DataError, match=r"no band .*; its bands are 1 'B02', 2 'B03'") as caught:
            RasterReader(file, (wrong,))
        assert caught.value.where == str(file)
    with pytest.raises(DataError, match="did you mean"):
        RasterReader(file, ("B8",))


def test_colours_name_bands_and_alpha_is_not_read_unless_chosen(tmp_path, raster_library):
    made = pixels(4)
    file = write_tiff(tmp_path / "a.tif", made, photometric="rgb", alpha=2)
    raster = RasterReader(file)
    assert raster.band_names == ("red", "green", "blue", "alpha") and raster.alpha_band == 4
    assert np.array_equal(raster.read(), made[..., :3])
    assert np.array_equal(RasterReader(file, (1, 2, 3, 4)).read(), made)
    assert np.array_equal(RasterReader(file, ("blue",)).read(), made[..., 2:3])


def test_nodata_alpha_and_nan_are_not_valid(tmp_path, raster_library):
    made = pixels(3) // 2 + 1
    made[:5] = 0
    made[10, 10] = (0, 3, 3)  # one band of three: that is a dark colour
    raster = RasterReader(write_tiff(tmp_path / "n.tif", made, photometric="rgb", nodata=0))
    assert raster.nodata == 0
    valid = np.ones((47, 53), bool)
    valid[:5] = False
    assert np.array_equal(raster.valid_mask(), valid)
    assert np.array_equal(raster.valid_mask(Window(0, 3, 8, 6)), valid[3:9, :8])
    four = np.dstack([made, np.where(valid, 9, 0).astype(np.uint8)])
    file = write_tiff(tmp_path / "a.tif", four, photometric="rgb", alpha=2)
    assert np.array_equal(RasterReader(file).valid_mask(), valid)
    assert RasterReader(file, (1, 2, 3, 4)).valid_mask().all(), "a band that is read as data masks nothing"
    floats = made[..., 0].astype(np.float32)
    floats[20, 30] = np.nan
    mask = RasterReader(write_tiff(tmp_path / "f.tif", floats)).valid_mask()
    assert not mask[20, 30] and mask.sum() == mask.size - 1
    assert np.array_equal(raster.valid_mask(out_size=(53, 94)), np.repeat(valid, 2, axis=0))


@pytest.mark.parametrize("count", [1, 2])
def test_a_grey_geopackage_raster_reads_as_colours_and_its_alpha_is_a_mask(tmp_path, count):
    """GDAL stores one band of 8 bit as tiles of four: the model gets three equal ones."""
    rasterio = pytest.importorskip("rasterio")
    made = pixels(1, height=300, width=400)
    alpha = np.full((300, 400), 255, np.uint8)
    if count == 2:
        alpha[:40] = 0
    place = rasterio.transform.from_origin(500000, 5200000, 0.5, 0.5)
    profile = dict(driver="GPKG", width=400, height=300, count=count, dtype="uint8", crs="EPSG:32633")
    with rasterio.open(tmp_path / "grey.gpkg", "w", **profile, transform=place, TILE_FORMAT="PNG") as raster:
        raster.write(made[..., 0], 1)
        if count == 2:
            raster.write(alpha, 2)
    before = (tmp_path / "grey.gpkg").read_bytes()
    raster = RasterReader(tmp_path / "grey.gpkg")
    assert (raster.count, raster.alpha_band, raster.bands) == (4, 4, (1, 2, 3))
    seen = alpha > 0
    assert np.array_equal(raster.read()[seen], np.repeat(made, 3, axis=2)[seen])
    assert np.array_equal(raster.valid_mask(), seen)
    assert raster.georeference.crs == "EPSG:32633" and raster.read(PART).shape == (31, 20, 3)
    raster.close()
    assert [file.name for file in tmp_path.iterdir()] == ["grey.gpkg"]
    assert (tmp_path / "grey.gpkg").read_bytes() == before


def test_masks_of_the_file_and_next_to_it(tmp_path, monkeypatch):
    rasterio = pytest.importorskip("rasterio")
    made, valid = pixels(3), RNG.random((47, 53)) < 0.5
    for inside in (True, False):
        file = tmp_path / f"{inside}.tif"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(
            file, "w", driver="GTiff", width=53, height=47, count=3, dtype="uint8"
        ) as raster:  # fmt: skip
            raster.write(np.moveaxis(made, 2, 0))
            raster.write_mask(valid)
        assert file.with_name(f"{inside}.tif.msk").is_file() is not inside
        assert np.array_equal(RasterReader(file).valid_mask(PART), valid[7:38, 13:33])
        with monkeypatch.context() as hidden:
            hide_rasterio(hidden)
            assert np.array_equal(RasterReader(file).valid_mask(PART), valid[7:38, 13:33])


def test_a_validity_mask_is_made_smaller_in_parts(tmp_path, raster_library, monkeypatch):
    made = np.repeat(np.repeat(RNG.integers(0, 2, (25, 15)), 4, axis=0), 4, axis=1).astype(np.uint8)
    raster = RasterReader(write_tiff(tmp_path / "a.tif", made, nodata=0))
    monkeypatch.setattr(rasters, "_MASK_ROWS", 7)
    assert np.array_equal(raster.valid_mask(out_size=(15, 25)), made[2::4, 2::4] != 0)


def test_smaller_windows_are_averages(tmp_path, raster_library):
    made = np.repeat(np.repeat(pixels(3, "uint16", 12, 16), 4, axis=0), 4, axis=1)
    raster = RasterReader(write_tiff(tmp_path / "a.tif", made, tile=(16, 16)))
    assert np.array_equal(raster.read(out_size=(16, 12)), made[::4, ::4])
    assert np.array_equal(raster.read(Window(8, 4, 16, 20), out_size=(4, 5)), made[4:24:4, 8:24:4])
    assert raster.read_overview(16).shape == (12, 16, 3) and raster.read_overview(500).shape == (48, 64, 3)
    steps = np.repeat(np.repeat(pixels(1, "uint16", 3, 4), 16, axis=0), 16, axis=1)
    few = RasterReader(write_tiff(tmp_path / "b.tif", steps)).read_overview(4)
    assert np.array_equal(few, steps[::16, ::16]), "decimated before it is averaged"


def test_larger_windows_are_interpolated(tmp_path, raster_library):
    made = np.add.outer(np.arange(20) * 10, np.arange(30)).astype(np.uint16)
    large = RasterReader(write_tiff(tmp_path / "a.tif", made)).read(out_size=(60, 40))[..., 0].astype(float)
    exact = np.add.outer((np.arange(40) + 0.5) * 5 - 5, (np.arange(60) + 0.5) / 2 - 0.5)
    assert np.abs(large - exact)[2:-2, 2:-2].max() <= 0.51


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_windows_beyond_the_raster(tmp_path, raster_library, suffix):
    made = pixels(3)
    file = tmp_path / f"a{suffix}"
    Image.fromarray(made).save(file)
    raster = RasterReader(file)
    assert np.array_equal(raster.read(Window(40, 40, 30, 30)), made[40:, 40:])
    assert np.array_equal(raster.read(Window(-5, -6, 10, 10)), made[:4, :5])
    with pytest.raises(ValueError, match="is outside"):
        raster.read(Window(53, 0, 5, 5))


def test_plain_images_keep_their_bits_and_bands(tmp_path):
    for made, bands in (
        (pixels(1)[..., 0], ("gray",)),
        (pixels(2), ("gray", "alpha")),
        (pixels(3), ("red", "green", "blue")),
        (pixels(4), ("red", "green", "blue", "alpha")),
    ):
        Image.fromarray(made).save(tmp_path / "a.png")
        raster = RasterReader(tmp_path / "a.png", range(1, len(bands) + 1))
        assert raster.band_names == bands and raster.dtype == np.uint8
        assert np.array_equal(raster.read(PART), np.atleast_3d(made)[7:38, 13:33])
    wide = pixels(4, "uint16")
    for count, order in ((1, [0]), (3, [2, 1, 0]), (4, [2, 1, 0, 3])):
        cv2.imwrite(str(tmp_path / "w.png"), wide[..., order])
        raster = RasterReader(tmp_path / "w.png", range(1, count + 1))
        assert raster.dtype == np.uint16
        assert np.array_equal(raster.read(), wide[..., :count])


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".ppm", ".gif", ".jpg"])
def test_other_plain_images(tmp_path, suffix):
    """Side lengths with 16 among their digits once read as 16 bit."""
    made = cv2.GaussianBlur(pixels(3, height=116, width=160), (0, 0), 9)
    Image.fromarray(made).save(
        tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {"quality": 95})
    )
    raster = RasterReader(tmp_path / f"a{suffix}")
    assert raster.dtype == np.uint8 and raster.count == 3
    expected = np.asarray(Image.open(tmp_path / f"a{suffix}").convert("RGB"))
    assert np.abs(raster.read().astype(int) - expected).max() <= (suffix == ".jpg")


def test_a_palette_image_comes_in_its_colours_and_a_palette_tiff_in_indices(tmp_path, raster_library):
    picture = Image.fromarray(pixels(3)).quantize(9)
    picture.save(tmp_path / "a.png")
    assert np.array_equal(RasterReader(tmp_path / "a.png").read(), np.asarray(picture.convert("RGB")))
    picture.save(tmp_path / "a.tif")
    raster = RasterReader(tmp_path / "a.tif")
    assert np.array_equal(raster.read()[..., 0], np.asarray(picture))
    assert np.array_equal(np.array(raster.palette)[raster.read()[..., 0]], np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_the_camera_says(tmp_path, orientation):
    blocks = np.zeros((32, 48, 3), np.uint8)
    blocks[:16, :16] = (250, 20, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(blocks).save(tmp_path / "a.jpg", exif=exif.tobytes(), quality=95)
    raster = RasterReader(tmp_path / "a.jpg")
    expected = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB)
    assert (raster.height, raster.width) == expected.shape[:2] and image_size(tmp_path / "a.jpg")[
        0
    ] == raster.width
    assert np.array_equal(raster.read(), expected)


def test_a_large_plain_image_is_read_by_windows_where_rasterio_is(tmp_path, raster_library):
    made = pixels(3)
    Image.fromarray(made).save(tmp_path / "a.png")
    raster = RasterReader(tmp_path / "a.png", decode_limit=1000)
    assert raster.windowed is (raster_library == "rasterio") and np.array_equal(
        raster.read(PART), made[7:38, 13:33]
    )
    assert not RasterReader(tmp_path / "a.png", decode_limit=None).windowed


def test_an_image_larger_than_the_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    hide_rasterio(monkeypatch)
    monkeypatch.setattr(raster_formats, "_free_memory", lambda: 10_000)
    monkeypatch.setattr(raster_formats.cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    raster = RasterReader(tmp_path / "a.png")  # the head of the file is enough
    with pytest.raises(DataError, match=r"53 x 47 pixels.* GB decoded.* GB of memory are free") as caught:
        raster.read()
    assert "rsfoundation[geo]" in caught.value.fix and "tiled TIFF" in caught.value.fix


def test_free_memory_is_known_here():
    assert raster_formats._free_memory() > 2**20


def test_broken_pixels_are_named_with_their_window(tmp_path, raster_library):
    file = write_tiff(tmp_path / "a.tif", pixels(3, height=400), compression="zlib", rowsperstrip=8)
    content = bytearray(file.read_bytes())
    content[30_000:31_000] = bytes(1000)
    file.write_bytes(content)
    raster = RasterReader(file)
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        raster.read()
    assert caught.value.where == str(file)


def test_readers_pickle_close_and_open_again(tmp_path, raster_library):
    made = pixels(4)
    for file in (write_tiff(tmp_path / "a.tif", made), tmp_path / "a.png"):
        Image.fromarray(made).save(tmp_path / "a.png")
        with RasterReader(file, (3, 1)) as raster:
            copy = pickle.loads(pickle.dumps(raster))
            assert np.array_equal(copy.read(PART), made[7:38, 13:33, [2, 0]])
        raster.close()
        assert np.array_equal(raster.read(PART), copy.read(PART))


@pytest.mark.parametrize("count", [1, 3])
def test_white_is_zero_is_no_palette(tmp_path, raster_library, count):
    """GDAL makes a palette of inverted greys for such files."""
    raster = RasterReader(write_tiff(tmp_path / "a.tif", pixels(count), photometric="miniswhite"))
    assert raster.palette is None and raster.count == count


@pytest.mark.parametrize("kinds", [(2, 2, 2), (0, 0, 2), (1, 0, 0)])
def test_transparency_among_the_first_three_of_four_bands_is_none(tmp_path, raster_library, kinds):
    import tifffile

    made = pixels(4)
    tifffile.imwrite(
        tmp_path / "a.tif", made, photometric="minisblack", planarconfig="contig", extrasamples=kinds
    )
    raster = RasterReader(tmp_path / "a.tif")
    alpha = 4 if kinds[-1] else None
    assert raster.alpha_band == alpha
    assert np.array_equal(raster.read(), made[..., : 3 if alpha else 4])


def test_threads_read_one_raster_at_once(tmp_path, raster_library):
    made = pixels(3, "uint16", 300, 200)
    raster = RasterReader(write_tiff(tmp_path / "a.tif", made, tile=(32, 32), compression="zlib"))
    places = [(int(x), int(y)) for x, y in RNG.integers(0, 150, (300, 2))]

    def right(place):
        x, y = place
        return np.array_equal(raster.read(Window(x, y, 50, 50)), made[y : y + 50, x : x + 50])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, places))
    raster.close()


def _sums(raster, start, out):
    out.put([int(raster.read(Window(0, y, 64, 8)).sum()) for y in range(start, 256, 16)])


def test_a_reader_that_was_open_before_a_fork_serves_both_processes(tmp_path, raster_library):
    made = pixels(3, "uint8", 256, 64)
    raster = RasterReader(write_tiff(tmp_path / "a.tif", made, rowsperstrip=8))
    expected = [int(made[y : y + 8].sum()) for y in range(0, 256, 16)]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=_sums, args=(raster, 0, results)) for _ in range(2)]
    for child in children:
        child.start()
    mine = [int(raster.read(Window(0, y, 64, 8)).sum()) for y in range(0, 256, 16)]
    found = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert found == [expected, expected] and mine == expected


def test_reading_a_window_costs_the_memory_of_a_window(tmp_path, raster_library):
    import tracemalloc

    made = np.zeros((4000, 4000, 3), np.uint8)
    raster = RasterReader(write_tiff(tmp_path / "a.tif", made, tile=(256, 256), compression="zlib"))
    tracemalloc.start()
    raster.read(Window(1000, 1000, 512, 512))
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.reset_peak()
    raster.read_overview(500)
    raster.valid_mask(out_size=(500, 500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, "an overview holds no raster"


def test_opencv_says_nothing_on_the_terminal(tmp_path, raster_library, capfd):
    file = write_tiff(
        tmp_path / "a.tif", pixels(4), crs="EPSG:32633", nodata=0, compression="zlib", predictor=2
    )
    RasterReader(file).read()
    Image.fromarray(pixels(4)).save(tmp_path / "b.tif", compression="tiff_lzw")
    RasterReader(tmp_path / "b.tif").read()
    captured = capfd.readouterr()
    assert not captured.err and not captured.out
