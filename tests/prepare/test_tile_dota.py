"""Cutting data in DOTA's layout: names, pixels, labels, counts, broken input."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from locations import SAMPLES

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.patch_index import read_index
from rsfoundation.datasets.transforms.images import image_loading
from rsfoundation.geometry.tiling import DOTA_TILINGS, TilingSettings
from rsfoundation.io.dota import read_dota_txt
from rsfoundation.io.loading import PADDING
from rsfoundation.prepare import tiling
from rsfoundation.prepare.tiling import LOST, OUTSIDE, WITHOUT_AREA, tile_dota

SMALL = TilingSettings(window=64, gap=16)
HEADER = "imagesource:GoogleEarth\ngsd:null\n"
DOTA_SAMPLES = SAMPLES / "dota_devkit_example"


@pytest.fixture
def source(tmp_path) -> Path:
    """Two images: 100 x 80 with three objects, 40 x 50 with none."""
    folder = tmp_path / "train"
    (folder / "images").mkdir(parents=True)
    (folder / "labelTxt").mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("P0001", (80, 100, 3)), ("P0002", (50, 40, 3))):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), rng.integers(0, 256, shape).astype(np.uint8))
    lines = [
        "2 2 12 2 12 8 2 8 ship 0",  # in the first window only
        "55 10 75 10 75 20 55 20 plane 1",  # cut by the first window at .45: in the second only
        "20 50 30 50 30 65 20 65 ship 0",  # cut by the upper window at 14 of 15, whole in the lower
    ]
    (folder / "labelTxt" / "P0001.txt").write_text(HEADER + "\n".join(lines) + "\n")
    (folder / "labelTxt" / "P0002.txt").write_text("")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_patches_have_the_names_and_pixels_of_their_windows(source, tmp_path):
    made = tile_dota([source], tmp_path / "out", tiling=SMALL)
    image = cv2.imread(str(source / "images/P0001.png"))
    names = sorted(path.stem for path in (tmp_path / "out/images").iterdir())
    assert names == [
        "P0001__64__0___0", "P0001__64__0___16", "P0001__64__36___0", "P0001__64__36___16",
        "P0002__64__0___0",
    ]  # fmt: skip
    assert sorted(path.stem for path in (tmp_path / "out/annfiles").iterdir()) == names
    patch = cv2.imread(str(tmp_path / "out/images/P0001__64__36___16.png"))
    assert np.array_equal(patch, image[16:80, 36:100])
    assert (made.report.images, made.patches) == (2, 5)


def test_what_lies_beyond_the_image_is_padded(source, tmp_path):
    tile_dota([source], tmp_path / "out", tiling=SMALL)
    patch = cv2.imread(str(tmp_path / "out/images/P0002__64__0___0.png"))
    assert patch.shape == (64, 64, 3)
    assert (patch[50:] == PADDING).all() and (patch[:, 40:] == PADDING).all()
    assert np.array_equal(patch[:50, :40], cv2.imread(str(source / "images/P0002.png")))


def test_labels_are_moved_and_cut_ones_marked(source, tmp_path):
    made = tile_dota([source], tmp_path / "out", tiling=SMALL)
    labels = {path.stem: path.read_text() for path in (tmp_path / "out/annfiles").iterdir()}
    assert labels["P0001__64__0___0"] == "2 2 12 2 12 8 2 8 ship 0\n20 50 30 50 30 65 20 65 ship 2\n"
    assert labels["P0001__64__0___16"] == "20 34 30 34 30 49 20 49 ship 0\n"
    assert labels["P0001__64__36___0"] == "19 10 39 10 39 20 19 20 plane 1\n"
    assert labels["P0002__64__0___0"] == ""
    assert (made.report.objects, made.placed, made.truncated, made.counts()[LOST]) == (3, 4, 1, 0)
    assert made.empty_patches == 2


def test_objects_that_no_window_holds_are_counted(source, tmp_path):
    label = source / "labelTxt/P0002.txt"
    label.write_text("-30 0 10 0 10 10 -30 10 harbor 0\n5 5 9 9 13 13 17 17 ship 0\n")
    made = tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert (made.report.objects, made.counts()[LOST], made.counts()[WITHOUT_AREA]) == (5, 1, 1)


def test_files_do_not_depend_on_workers(source, tmp_path):
    tile_dota([source], tmp_path / "one", tiling=SMALL, workers=1)
    tile_dota([source], tmp_path / "four", tiling=SMALL, workers=4)
    assert digests(tmp_path / "one") == digests(tmp_path / "four")


def test_a_test_split_has_no_labels(source, tmp_path):
    for path in (source / "labelTxt").iterdir():
        path.unlink()
    (source / "labelTxt").rmdir()
    made = tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert made.patches == 5
    assert not (tmp_path / "out/annfiles").exists()
    other = tmp_path / "val"
    (other / "images").mkdir(parents=True)
    (other / "labelTxt").mkdir()
    cv2.imwrite(str(other / "images/P0003.png"), np.zeros((9, 9, 3), np.uint8))
    (other / "labelTxt/P0003.txt").write_text("")
    with pytest.raises(DataError, match="some of the folders have labels"):
        tile_dota([source, other], tmp_path / "mixed", tiling=SMALL)


def test_equal_input_is_used_again_and_changed_input_is_cut_anew(source, tmp_path):
    first = tile_dota([source], tmp_path / "out", tiling=SMALL)
    again = tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert again.reused and not first.reused
    assert (again.patches, again.placed) == (first.patches, first.placed)
    (source / "labelTxt/P0002.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    assert tile_dota([source], tmp_path / "out", tiling=SMALL).placed == first.placed + 1
    assert tile_dota([source], tmp_path / "out", tiling=TilingSettings(window=32, gap=0)).patches > 5


def test_foreign_folders_and_equal_names_are_refused(source, tmp_path):
    before = digests(source)
    for mine, problem in (
        (source, "holds files that it is made from"),
        (tmp_path / "mine", "was not made by"),
    ):
        (mine / "notes").mkdir(parents=True)
        with pytest.raises(DataError, match=problem):
            tile_dota([source], mine, tiling=SMALL)
        assert (mine / "notes").is_dir()
    assert digests(source) == before
    with pytest.raises(DataError, match="two images are called P0001"):
        tile_dota([source, source], tmp_path / "out", tiling=SMALL)
    with pytest.raises(ConfigError, match="cannot share"):
        tile_dota([source], tmp_path / "out", tiling=TilingSettings(window=64, gap=64))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "sentence", "counted"),
    [
        (
            lambda folder: (folder / "images/P0002.png").write_bytes(b"no image"),
            "cannot be decoded",
            "unreadable images",
        ),
        (
            lambda folder: (folder / "labelTxt/P0002.txt").unlink(),
            "no label file",
            "images without a label file",
        ),
        (
            lambda folder: (folder / "labelTxt/P0002.txt").write_text("1 2 3 ship\n"),
            r"P0002.txt:1",
            "malformed label lines",
        ),
    ],
)
def test_broken_input_stops_or_is_counted(source, tmp_path, break_it, sentence, counted):
    break_it(source)
    with pytest.raises(DataError, match=sentence):
        tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert not (tmp_path / "out").exists()
    made = tile_dota([source], tmp_path / "out", tiling=SMALL, on_error="skip")
    assert made.counts()[counted] == 1
    assert made.patches >= 4


@pytest.mark.skipif(not DOTA_SAMPLES.is_dir(), reason="needs the real samples")
def test_real_images(tmp_path):
    made = tile_dota([DOTA_SAMPLES], tmp_path / "ss", tiling=DOTA_TILINGS["ss"])
    assert (made.report.images, made.report.objects, made.counts()[LOST]) == (2, 600, 0)
    names = {path.stem for path in (tmp_path / "ss/images").iterdir()}
    assert names == {"P1888__1024__0___0"} | {f"P0706__1024__{x}___{y}" for x in (0, 87) for y in (0, 158)}
    labels = read_dota_txt(tmp_path / "ss/annfiles/P1888__1024__0___0.txt").objects
    original = read_dota_txt(DOTA_SAMPLES / "labelTxt/P1888.txt").objects
    assert [item.quad for item in labels] == [item.quad for item in original]
    several = tile_dota([DOTA_SAMPLES], tmp_path / "ms", tiling=DOTA_TILINGS["ms"])
    assert several.patches == len(list((tmp_path / "ms/annfiles").iterdir())) == 15


@pytest.mark.parametrize("preset", ["ss", "ms"])
def test_every_object_is_in_a_window_or_counted(tmp_path, preset):
    """Objects are named one by one, so that each can be found again in the patches."""
    rng = np.random.default_rng(4)
    folder = tmp_path / "full"
    (folder / "images").mkdir(parents=True)
    (folder / "labelTxt").mkdir()
    cv2.imwrite(str(folder / "images/P1.png"), np.zeros((1500, 1900, 3), np.uint8))
    rows = []
    for number in range(200):
        x, y = rng.integers(-300, 1900), rng.integers(-300, 1500)
        w, h = rng.integers(5, [900, 1400][number % 2], 2)
        rows.append(f"{x} {y} {x + w} {y} {x + w} {y + h} {x} {y + h} object-{number} 0")
    (folder / "labelTxt/P1.txt").write_text("\n".join(rows))
    made = tile_dota([folder], tmp_path / "out", tiling=DOTA_TILINGS[preset], virtual=True)
    table = read_index(tmp_path / "out").table
    found = {table.class_names[label] for label in table.labels}
    assert len(found) + made.counts()[LOST] + made.counts()[OUTSIDE] == made.report.objects == 200
    assert made.placed == len(table.labels) and 0 < made.counts()[OUTSIDE] < made.counts()[LOST] < 200


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_large_images_give_the_same_patches_as_small_ones(tmp_path, monkeypatch, suffix):
    """Large ones are read by rows of windows; several sides begin anew at the top."""
    folder = tmp_path / "full"
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (230, 170, 3), np.uint8)
    cv2.imwrite(str(folder / f"images/P1.{suffix}"), cv2.blur(pixels, (5, 5)))
    sides = TilingSettings(window=64, gap=20, rates=(0.5, 1.0))
    small = tile_dota([folder], tmp_path / "small", tiling=sides)
    monkeypatch.setattr(tiling, "_SMALL", 0)
    monkeypatch.setattr(tiling, "_DECODED", 0)
    large = tile_dota([folder], tmp_path / "large", tiling=sides)
    assert small.patches == large.patches > 20
    names = [path.name for path in sorted((small.out / "images").iterdir())]
    whole = cv2.imread(str(folder / f"images/P1.{suffix}"))
    for name in names:
        one, other = (cv2.imread(str(made.out / "images" / name)) for made in (small, large))
        _, side, x, _, y = name.removesuffix(".png").replace("___", "__ __").split("__")
        part = whole[int(y) :, int(x) :][: int(side), : int(side)]
        assert np.array_equal(one[: len(part), : part.shape[1]], part)
        if suffix == "jpg":  # GDAL's colours of a JPEG differ a little from OpenCV's
            assert 0 < np.abs(one.astype(int) - other).mean() < 3
        else:
            assert np.array_equal(one, other)


@pytest.fixture
def deep(tmp_path):
    """A split with one image of four bands and 12 bit, as satellites deliver it."""
    folder = tmp_path / "deep"
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64, 4)).astype(np.uint16)
    tifffile.imwrite(folder / "images/S2.tif", pixels, photometric="minisblack", planarconfig="contig")
    return folder, pixels


def patch_of(out):
    return cv2.imread(str(out / "images/S2__64__0___0.png"), cv2.IMREAD_UNCHANGED)


def test_bands_and_range_of_the_patches(deep, tmp_path):
    folder, pixels = deep
    loading = image_loading("4,3,2", "0,4095")
    tile_dota([folder], tmp_path / "out", tiling=SMALL, loading=loading)
    expected = np.rint(pixels[..., [1, 2, 3]] * (255 / 4095))  # OpenCV reads blue, green, red
    assert np.abs(patch_of(tmp_path / "out") - expected).max() <= 1
    again = tile_dota([folder], tmp_path / "out", tiling=SMALL, loading=loading)
    assert again.reused
    tile_dota([folder], tmp_path / "out", tiling=SMALL, loading=image_loading("3,2,1", "native"))
    assert np.array_equal(patch_of(tmp_path / "out"), pixels[..., :3])


def test_other_bands_than_a_png_holds_are_refused(deep, tmp_path):
    folder, _ = deep
    with pytest.raises(DataError, match="a patch has 4 bands of uint8") as raised:
        tile_dota([folder], tmp_path / "out", tiling=SMALL, loading=image_loading("all", "0,4095"))
    assert "--virtual" in raised.value.fix and not (tmp_path / "out").exists()


def test_all_broken_labels_are_found_before_the_first_patch(source, tmp_path, monkeypatch):
    (source / "labelTxt/P0001.txt").write_text("1 2 3 ship\n1 2 ship\n")
    (source / "labelTxt/P0002.txt").unlink()
    monkeypatch.setattr(tiling, "write_picture", None)  # nothing may be written
    with pytest.raises(DataError, match="the first of 3 problems") as raised:
        tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert "2 malformed label lines (P0001.txt)" in raised.value.what
    assert "1 images without a label file (P0002.png)" in raised.value.what
