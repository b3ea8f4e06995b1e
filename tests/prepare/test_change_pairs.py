"""``rsf prepare change``: pairs from two GeoTIFFs and polygons, and what is refused."""

import numpy as np
import pytest

pytest.importorskip("rasterio")
pytest.importorskip("geopandas")

import geopandas
import rasterio
import shapely

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.change import ChangePairs
from rsfoundation.io.label_images import read_label_image
from rsfoundation.prepare.change import make_change_pairs
from rsfoundation.prepare.toy.make import make_change_polygons, make_geotiffs

WEST, NORTH, PIXEL = 500000.0, 5200000.0, 0.5
SIZE = (160, 128)  # width, height: 3 x 2 windows of 64 px, the last column moved inside by half


def write_raster(path, seed, west=WEST, size=SIZE, crs="EPSG:32633", empty=None):
    """Write four bands of 16 bit, 0 without data."""
    pixels = np.random.default_rng(seed).integers(1, 3000, (4, size[1], size[0]), dtype=np.uint16)
    if empty is not None:
        pixels[:, empty[0], empty[1]] = 0
    options = dict(driver="GTiff", width=size[0], height=size[1], count=4, dtype="uint16", nodata=0, crs=crs)
    with rasterio.open(
        path, "w", **options, transform=rasterio.Affine(PIXEL, 0, west, 0, -PIXEL, NORTH)
    ) as made:
        made.write(pixels)
        made.descriptions = ("red", "green", "blue", "near infrared")
    return pixels


def ground(left, top, right, bottom):
    """A box of pixels on the ground."""
    xs = [WEST + PIXEL * x for x in (left, right)]
    ys = [NORTH - PIXEL * y for y in (bottom, top)]
    return shapely.box(xs[0], ys[0], xs[1], ys[1])


BOXES = [(10, 20, 30, 44), (60, 5, 70, 15), (130, 90, 150, 110)]


def write_polygons(path, boxes=BOXES, crs="EPSG:4326"):
    """Write boxes in another CRS than that of the images."""
    table = geopandas.GeoDataFrame(geometry=[ground(*box) for box in boxes], crs="EPSG:32633")
    table.to_crs(crs).to_file(path)
    return path


@pytest.fixture
def source(tmp_path):
    """Two dates, polygons, and the arrays."""
    folder = tmp_path / "source"
    folder.mkdir()
    dates = [write_raster(folder / f"{name}.tif", seed) for seed, name in enumerate(("before", "after"))]
    return [folder / "before.tif", folder / "after.tif", write_polygons(folder / "changes.gpkg")], dates


def truth():
    changed = np.zeros(SIZE[::-1], np.uint8)
    for left, top, right, bottom in BOXES:
        changed[top:bottom, left:right] = 1
    return changed


def places(folder):
    """Split, column and row of every pair, by its file name."""
    found = {}
    for path in sorted(folder.glob("*/A/*.tif")):
        _, left, top = path.stem.split("__")
        found[int(left), int(top)] = path.parent.parent
    return found


def test_pairs_keep_values_bands_and_place_and_every_pixel_has_one_label(source, tmp_path):
    files, dates = source
    result = make_change_pairs(*files, tmp_path / "out", window=64, val=0.34)
    found = places(tmp_path / "out")
    assert set(found) == {(left, top) for left in (0, 64, 96) for top in (0, 64)}
    labelled, merged = np.zeros(SIZE[::-1], int), np.zeros(SIZE[::-1], np.uint8)
    for (left, top), split in found.items():
        name = f"before__{left}__{top}"
        for date, pixels in zip("AB", dates, strict=True):
            with rasterio.open(split / date / f"{name}.tif") as made:
                np.testing.assert_array_equal(made.read(), pixels[:, top : top + 64, left : left + 64])
                assert made.descriptions[3] == "near infrared" and made.nodata == 0
                assert made.xy(0, 0, offset="ul") == (WEST + PIXEL * left, NORTH - PIXEL * top)
        label = read_label_image(split / "label" / f"{name}.png").values
        part = (slice(top, top + 64), slice(left, left + 64))
        labelled[part] += label != 255
        merged[part] |= (label == 1).astype(np.uint8)
    assert (labelled == 1).all()
    np.testing.assert_array_equal(merged, truth())
    assert result.changed_pixels == truth().sum() and result.pixels == truth().size
    assert (result.train + result.val, result.polygons, result.polygons_outside) == (6, 3, 0)


@pytest.mark.parametrize("seed", range(4))
def test_both_splits_see_change_and_the_share_is_kept(source, tmp_path, seed):
    files, _ = source
    result = make_change_pairs(*files, tmp_path / "out", window=32, val=0.25, seed=seed)
    assert result.val == pytest.approx(0.25 * (result.train + result.val), abs=1)
    for split in ("train", "val"):
        labels = [read_label_image(path).values for path in (tmp_path / "out" / split / "label").iterdir()]
        assert any((label == 1).any() for label in labels)


def test_a_data_set_reads_the_pairs(source, tmp_path):
    files, _ = source
    make_change_pairs(*files, tmp_path / "out", window=64)
    prefix = dict(img_path_from="train/A", img_path_to="train/B", seg_map_path="train/label")
    steps = [
        dict(type="rsfoundation.MultiImgLoadImageFromFile", bands=[4, 3, 2], pixel_range=[0, 3000]),
        dict(type="rsfoundation.MultiImgLoadAnnotations"),
    ]
    data = ChangePairs(
        data_root=str(tmp_path / "out"), data_prefix=prefix, format_seg_map=None, pipeline=steps
    )
    seen = [data[index] for index in range(len(data))]
    assert {sample["img"][0].shape for sample in seen} == {(64, 64, 3)}
    assert set(np.unique([sample["gt_seg_map"] for sample in seen])) <= {0, 1, 255}


def test_pixels_without_data_are_ignored_and_windows_without_any_are_left_out(source, tmp_path, said):
    (before, after, polygons), _ = source
    write_raster(after, 1, empty=(slice(0, 64), slice(0, 80)))
    result = make_change_pairs(before, after, polygons, tmp_path / "out", window=64, val=0.0)
    assert result.pairs_without_data == 1 and result.train == 5 and "left out" in said.text
    assert not (tmp_path / "out" / "val").exists()
    label = read_label_image(tmp_path / "out/train/label/before__64__0.png").values
    assert (label[:, :16] == 255).all() and (label[:, 16:] != 255).all()


def test_made_once_and_made_anew_when_a_file_changes(source, tmp_path):
    (before, after, polygons), _ = source
    first = make_change_pairs(before, after, polygons, tmp_path / "out", window=64)
    again = make_change_pairs(before, after, polygons, tmp_path / "out", window=64)
    assert again.reused and again.counts() | {"already there": ""} == first.counts() | {"already there": ""}
    write_polygons(polygons, BOXES[:1])
    assert make_change_pairs(before, after, polygons, tmp_path / "out", window=64).polygons == 1


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (dict(west=WEST + 10), "20.0 pixels"),
        (dict(size=(160, 96)), "160x128 and 160x96"),
        (dict(crs="EPSG:32632"), "different coordinate systems"),
        (dict(crs=None), "no coordinate system"),
    ],
)
def test_dates_that_do_not_match_are_refused(source, tmp_path, second, words):
    (before, after, polygons), _ = source
    write_raster(after, 1, **second)
    with pytest.raises(DataError, match=words):
        make_change_pairs(before, after, polygons, tmp_path / "out", window=64)
    assert not (tmp_path / "out").exists()


def test_polygons_elsewhere_are_refused_and_a_few_are_counted(source, tmp_path, said):
    (before, after, polygons), _ = source
    with pytest.raises(DataError, match="polygons does not exist") as caught:
        make_change_pairs(before, after, tmp_path / "none.geojson", tmp_path / "out", window=64)
    assert caught.value.where == str(tmp_path / "none.geojson")
    write_polygons(polygons, [(1000, 2000, 1010, 2010)])
    with pytest.raises(DataError, match="columns 1000 to 1010 and rows 2000 to 2010 of a raster of 160x128"):
        make_change_pairs(before, after, polygons, tmp_path / "out", window=64)
    write_polygons(polygons, [*BOXES, (1000, 2000, 1010, 2010)])
    assert make_change_pairs(before, after, polygons, tmp_path / "out", window=64).polygons_outside == 1
    assert "1 polygons do not touch" in said.text


@pytest.mark.parametrize("options", [dict(window=50), dict(window=0), dict(val=1.0), dict(val=-0.1)])
def test_impossible_options_are_refused(source, tmp_path, options):
    with pytest.raises(ConfigError):
        make_change_pairs(*source[0], tmp_path / "out", **options)


def test_foreign_folders_and_small_images_are_refused(source, tmp_path):
    with pytest.raises(DataError, match="smaller than a window of 256"):
        make_change_pairs(*source[0], tmp_path / "out", window=256)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="was not made by"):
        make_change_pairs(*source[0], tmp_path / "out", window=64)


def test_the_verb_cuts_the_toy_scene(tmp_path, capsys):
    before, after = make_geotiffs(tmp_path, 1, size=(512, 384))
    (changes,) = make_change_polygons(tmp_path, 1, size=(512, 384))
    out = tmp_path / "pairs"
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "change", *map(str, (before, after, changes)), "-o", str(out), "--window", "128"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "share of changed pixels" in printed and len(list(out.glob("*/label/*.png"))) == 12
