"""Folders of patches by their index, written or virtual, and the cut that a config states."""

import os
import pickle

import cv2
import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.datasets.oriented.patch_index import INDEX, read_index, write_index
from rsfoundation.datasets.transforms.images import LoadImageFromFile
from rsfoundation.geometry.tiling import DOTA_TILINGS, TilingSettings
from rsfoundation.io.loading import OpenImages
from rsfoundation.prepare.tiling import index_of_folder, tile_dota

SMALL = TilingSettings(window=64, gap=16, rates=(1.0, 0.5))


@pytest.fixture
def source(tmp_path):
    """Two noisy images, 150 x 100 and 70 x 90, with objects in and across windows; odd ones among them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "full/train"
    (folder / "images").mkdir(parents=True)
    (folder / "labelTxt").mkdir()
    for name, height, width in (("P1", 100, 150), ("P2", 90, 70)):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"images/{name}.png"), image)
        rows = ["imagesource:GoogleEarth", "gsd:null"]
        for kind in ("ship", "plane", "ship", "harbor", "helipad"):
            x, y = rng.uniform(0, width - 20), rng.uniform(0, height - 15)
            rows.append(f"{x:.3f} {y:.2f} {x + 19.5:.1f} {y} {x + 19} {y + 12} {x} {y + 13} {kind} 1")
        rows += ["1 1 2 1 2 2 1 2 ship 0", "5 5 9 9 9 5 5 9 plane 0"]
        (folder / f"labelTxt/{name}.txt").write_text("\n".join(rows))
    return folder


@pytest.fixture
def cut(source, tmp_path):
    def run(virtual=False, name="patches", **kwargs):
        return tile_dota([source], tmp_path / name / "train", tiling=SMALL, virtual=virtual, **kwargs)

    return run


def read(root, **kwargs):
    return DOTADataset(data_root=str(root), **kwargs)


def test_the_index_says_what_the_files_say(cut, tmp_path):
    made = cut()
    indexed = read(tmp_path / "patches")
    (tmp_path / "patches/train" / INDEX).unlink()
    files = read(tmp_path / "patches")
    assert made.patches == len(indexed) > 8
    assert list(indexed.data_list) == list(files.data_list)
    assert indexed.report.counts == files.report.counts and indexed.report.files == files.report.files
    assert indexed.report.counts["boxes with crossed corners (put in order)"] > 0


def test_virtual_patches_are_the_written_ones(cut, tmp_path):
    written, virtual = cut(), cut(virtual=True, name="virtual")
    assert vars(written) == {**vars(virtual), "out": written.out}
    assert sorted(path.name for path in (tmp_path / "virtual/train").iterdir()) == [INDEX, "manifest.json"]
    first, second = read(tmp_path / "patches"), read(tmp_path / "virtual")
    load = LoadImageFromFile()
    for one, other in zip(first.data_list, second.data_list, strict=True):
        assert (one["img_id"], one["instances"]) == (other["img_id"], other["instances"])
        assert np.array_equal(load(one)["img"], load(other)["img"])
        assert load(other)["ori_shape"] == (other["height"], other["width"])


@pytest.mark.parametrize("virtual", [False, True])
def test_files_do_not_depend_on_workers_or_time(cut, tmp_path, virtual, monkeypatch):
    cut(virtual, "one", workers=1)
    monkeypatch.setenv("TZ", "UTC+5")
    cut(virtual, "four", workers=4)
    for path in (tmp_path / "one").rglob("*"):
        other = tmp_path / "four" / path.relative_to(tmp_path / "one")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: next((folder / "annfiles").iterdir()).write_text(""),
        lambda folder: next((folder / "annfiles").iterdir()).unlink(),
        lambda folder: (folder / "images/new__64__0___0.png").write_bytes(b""),
        lambda folder: (folder / "annfiles/new.txt").write_text(""),
    ],
)
def test_a_changed_folder_is_read_by_its_files(cut, tmp_path, change):
    cut()
    folder = tmp_path / "patches/train"
    change(folder)
    data = read(tmp_path / "patches", on_error="skip")
    assert any("differ from the index" in remark for remark in data.report.warnings)
    (folder / INDEX).unlink()
    assert list(data.data_list) == list(read(tmp_path / "patches", on_error="skip").data_list)


def test_an_edit_of_the_same_length_is_noticed_and_a_copy_is_not_one(cut, tmp_path):
    cut()
    folder = tmp_path / "patches/train"
    file = next(path for path in (folder / "annfiles").iterdir() if "ship" in path.read_text())
    state = file.stat()
    text = file.read_text()
    file.write_text(text.replace("ship", "shop"))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(DataError, match="unknown class 'shop'"):
        read(tmp_path / "patches")
    file.write_text(text)
    assert not any("index" in remark for remark in read(tmp_path / "patches").report.warnings)


def test_virtual_patches_of_changed_sources_are_refused(cut, source, tmp_path):
    cut(virtual=True)
    (source / "labelTxt/P1.txt").write_text("")
    with pytest.raises(DataError, match=r"1 files differ from the index .*P1\.txt"):
        read(tmp_path / "patches")
    assert not cut(virtual=True).reused
    assert len(read(tmp_path / "patches")) > 8
    (source / "images/P1.png").unlink()
    with pytest.raises(DataError, match=r"P1\.png"):
        read(tmp_path / "patches")


def test_a_virtual_test_split(cut, source, tmp_path):
    for path in (source / "labelTxt").iterdir():
        path.unlink()
    (source / "labelTxt").rmdir()
    cut(virtual=True)
    assert read(tmp_path / "patches", test_mode=True).get_data_info(0)["instances"] == []
    with pytest.raises(DataError, match="no labels, and training needs them"):
        read(tmp_path / "patches")


def test_an_older_folder_gets_its_index_when_it_is_asked_for_again(cut, tmp_path):
    cut()
    index = (tmp_path / "patches/train" / INDEX).read_bytes()
    (tmp_path / "patches/train" / INDEX).unlink()
    assert cut().reused
    assert (tmp_path / "patches/train" / INDEX).read_bytes() == index


def test_an_index_keeps_what_hundredths_cannot(cut, tmp_path):
    cut()
    folder = tmp_path / "patches/train"
    file = next((folder / "annfiles").iterdir())
    file.write_text("1.0625 1 20 1 20 30 1 30.123456 ship 0\n")
    write_index(folder, index_of_folder(folder))
    entry = next(e for e in read(tmp_path / "patches").data_list if e["img_id"] == file.stem)
    assert entry["instances"][0]["bbox"] == [1.0625, 1, 20, 1, 20, 30, 1, 30.123456]


@pytest.mark.parametrize("content", [b"", b"PK no zip", None])
def test_a_broken_index_says_how_to_mend_it(cut, tmp_path, content):
    cut()
    path = tmp_path / "patches/train" / INDEX
    path.write_bytes(content if content is not None else path.read_bytes()[:-400])
    with pytest.raises(DataError, match="the index cannot be read") as caught:
        read(tmp_path / "patches")
    assert "rsf prepare" in caught.value.fix
    assert read_index(tmp_path) is None


def test_a_stated_tiling_is_checked_by_the_manifest(source, tmp_path):
    tile_dota([source], tmp_path / "ss/train", tiling=DOTA_TILINGS["ss"])
    assert len(read(tmp_path / "ss", preset="ss")) == 2
    with pytest.raises(DataError, match=r"states .* gap 500, .* was made with .* gap 200, rates 1"):
        read(tmp_path / "ss", preset="ms")
    data = read(tmp_path / "ss", preset="ms", on_error="skip")
    assert len(data) == 2 and any("gap 500" in remark for remark in data.report.warnings)


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (("P1__1024__0___0", "P1__1024__824___0", "P1__1024__976___0"), True),
        (("P1__1024__0___0", "P1__1024__524___0", "P1__1024__976___0"), False),
        (("P1__2048__0___0",), False),
        (("P1",), False),
    ],
)
def test_a_stated_tiling_is_checked_by_names_without_a_manifest(tmp_path, draw, write, names, fits):
    for name in names:
        draw(tmp_path / f"train/images/{name}.png")
        write(tmp_path / f"train/annfiles/{name}.txt", "10 10 30 10 30 20 10 20 ship 0\n")
    if fits:
        assert len(read(tmp_path, preset="ss")) == len(names)
    else:
        with pytest.raises(DataError, match=f"1 of {len(names)} images that no such tiling makes"):
            read(tmp_path, preset="ss")


def test_open_images_are_kept_within_memory_and_by_use(tmp_path, draw):
    paths = [str(draw(tmp_path / f"{name}.png", 100, 100)) for name in "abc"]  # 30 000 bytes each
    images = OpenImages(60_000 / 2**20)
    first, second = images.open(paths[0]), images.open(paths[1])
    assert images.open(paths[0]) is first
    images.open(paths[2])  # the second one was used longest ago
    assert images.open(paths[0]) is first and images.open(paths[1]) is not second
    small = OpenImages(0)
    assert small.open(paths[0]) is small.open(paths[0])


def test_workers_start_with_nothing_open(tmp_path, draw):
    path = str(draw(tmp_path / "a.png", 100, 80))
    load = LoadImageFromFile(cache_mb=1)
    image = load({"img_path": path, "window": (90, 0, 20)})["img"]
    assert image.shape == (20, 20, 3) and (image[:, 10:] == (104, 116, 124)).all()
    copy = pickle.loads(pickle.dumps(load))
    assert np.array_equal(copy({"img_path": path, "window": (90, 0, 20)})["img"], image)
    image[:] = 0  # what is loaded is the caller's
    assert load({"img_path": path, "window": (90, 0, 20)})["img"].any()
