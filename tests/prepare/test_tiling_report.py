"""Everything that tiling leaves out is counted and logged, or stops the command."""

import itertools

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import read_manifest
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import ORPHANS
from rsfoundation.datasets.oriented.dota import DOTADataset, FAIR1MDataset
from rsfoundation.geometry.tiling import TilingSettings
from rsfoundation.prepare import tiling
from rsfoundation.prepare.tiling import LOST, OUTSIDE, WITHOUT_AREA, tile_dota, tile_fair1m

SMALL = TilingSettings(window=64, gap=16)
SHIP = "10 10 30 10 30 20 10 20 ship 0\n"
BEYOND = "42 10 60 10 60 20 42 20 plane 0\n"  # right of an image of 40 px, and in its window of 64
PARTLY = "35 25 55 25 55 35 35 35 harbor 0\n"
FLAT_BEYOND = "45 5 45 5 45 5 45 5 ship 0\n"


def figures(made):
    left_out = tuple(made.counts()[kind] for kind in (LOST, OUTSIDE, WITHOUT_AREA))
    return (made.report.objects, made.placed, *left_out)


def names_in(data):
    return [data.metainfo["classes"][label] for label in data.data_list.labels]


@pytest.mark.parametrize("virtual", [False, True])
def test_boxes_in_the_padding_are_left_out_as_data_sets_do(make_split, tmp_path, said, virtual):
    source = make_split(size=(50, 40), P1=SHIP + BEYOND + PARTLY + FLAT_BEYOND)
    made = tile_dota([source], tmp_path / "cut/train", tiling=SMALL, virtual=virtual)
    assert figures(made) == (4, 2, 0, 1, 1)
    assert "1 objects beyond their image (P1.txt)" in said.text
    cut, whole = (DOTADataset(data_root=str(tmp_path), split=split) for split in ("cut/train", "full"))
    assert names_in(cut) == names_in(whole) == ["ship", "harbor"]
    stored = DatasetReport.from_json(read_manifest(tmp_path / "cut/train").content["report"])
    assert stored.counts[OUTSIDE] == 1


def test_boxes_beyond_an_image_larger_than_the_window_are_not_lost(make_split, tmp_path):
    source = make_split(P1=SHIP + "-30 5 -3 5 -3 20 -30 20 plane 0\n-30 5 8 5 8 20 -30 20 harbor 0\n")
    assert figures(tile_dota([source], tmp_path / "out", tiling=SMALL)) == (3, 1, 1, 1, 0)


def test_fair1m_leaves_boxes_beyond_the_image_out(make_split, tmp_path):
    source = make_split("train", size=(50, 40), P1=None)
    (source / "labelTxt").rename(source / "labelXml")
    label = (
        "<annotation><objects>"
        "<object><possibleresult><name>Bus</name></possibleresult><points>"
        "<point>{0},10</point><point>{1},10</point><point>{1},20</point><point>{0},20</point></points></object>"
        "</objects></annotation>"
    )
    (source / "labelXml/P1.xml").write_text(label.format(42, 60))
    assert figures(tile_fair1m([source], tmp_path / "cut/train", tiling=SMALL)) == (1, 0, 0, 1, 0)
    assert FAIR1MDataset(data_root=str(tmp_path)).report.counts["boxes beyond the image"] == 1


def break_behind_the_head(source, name):
    path = source / f"images/{name}.png"
    path.write_bytes(path.read_bytes()[:2000])  # the head still tells the size


@pytest.mark.parametrize("virtual", [False, True])
def test_broken_images_are_found_under_skip(make_split, tmp_path, said, virtual):
    source = make_split(P1=SHIP, P2=SHIP)
    break_behind_the_head(source, "P2")
    made = tile_dota([source], tmp_path / "cut", tiling=SMALL, virtual=virtual, on_error="skip")
    assert (made.report.images, made.patches, made.counts()["unreadable images"]) == (1, 4, 1)
    assert "1 unreadable images (P2.png)" in said.text
    data = DOTADataset(data_root=str(tmp_path), split="cut")
    assert {entry["img_id"].partition("__")[0] for entry in data.data_list} == {"P1"}


def test_virtual_folders_decode_nothing_under_fail(make_split, tmp_path):
    source = make_split(P1=SHIP)
    break_behind_the_head(source, "P1")
    assert tile_dota([source], tmp_path / "out", tiling=SMALL, virtual=True).patches == 4


@pytest.mark.parametrize("virtual", [False, True])
def test_under_skip_every_window_is_read_with_one_image_open(make_split, tmp_path, virtual, monkeypatch):
    monkeypatch.setattr(tiling, "_SMALL", 0)  # images of more pixels are tiled one at a time

    class Open:
        """An image whose windows are read from a file, of which one is broken."""

        width, height, held = 100, 80, 0
        alive = most = 0

        def __init__(self, path):
            self.broken = path.stem == "P2"
            Open.alive += 1
            Open.most = max(Open.most, Open.alive)

        def __del__(self):
            Open.alive -= 1

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def read(self, window):
            if self.broken and window.top + window.height == self.height:
                raise DataError("no such window")
            return np.zeros((window.height, window.width, 3), np.uint8)

    class Loading:
        def open(self, path, decode_limit):
            return Open(path)

    source = make_split(P1=SHIP, P2=SHIP, P3=SHIP)
    out = tmp_path / "out"
    options = dict(virtual=virtual, on_error="skip", workers=4)
    made = tile_dota([source], out, tiling=SMALL, loading=Loading(), **options)
    assert (made.report.images, made.counts()["unreadable images"]) == (2, 1)
    assert Open.most <= (1 if virtual else 2), "an image is released before the next but one is opened"
    if not virtual:
        assert not list(out.glob("*/P2__*")), "no patch of a broken image is left"


@pytest.mark.parametrize("virtual", [False, True])
def test_nothing_is_made_where_every_image_is_broken(make_split, tmp_path, virtual):
    source = make_split(P1=SHIP, P2=None)
    break_behind_the_head(source, "P1")
    left_out = r"left out 1 .*\(P2\.png\); 1 .*\(P1\.png\)"
    with pytest.raises(DataError, match=f"no image is left to tile: {left_out}"):
        tile_dota([source], tmp_path / "made/out", tiling=SMALL, virtual=virtual, on_error="skip")
    assert [path.name for path in (tmp_path / "made").iterdir()] == [".lock"]


def test_label_files_without_an_image_are_counted(make_split, tmp_path, said):
    source = make_split(P1=SHIP)
    for name in "abcd":
        (source / f"labelTxt/{name}.txt").write_text(SHIP)
    made = tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert (made.counts()[ORPHANS], made.report.objects) == (4, 1)
    assert "4 label files without an image (a.txt, b.txt, c.txt and 1 more files)" in said.text
    again = tile_dota([source], tmp_path / "out", tiling=SMALL)
    assert again.reused and again.counts()[ORPHANS] == 4
    (source / "labelTxt/a.txt").unlink()
    assert tile_dota([source], tmp_path / "out", tiling=SMALL).counts()[ORPHANS] == 3


def test_fair1m_counts_label_files_of_all_parts(make_split, tmp_path):
    for part, name in itertools.product(("part1", "part2"), ("1", "2")):
        folder = tmp_path / "train" / part / "labelXml"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.xml").write_text("<annotation><objects/></annotation>")
    for part in ("part1", "part2"):
        make_split(f"{part}_images", **{"1": None}).joinpath("images").rename(
            tmp_path / "train" / part / "images"
        )
    assert tile_fair1m([tmp_path / "train"], tmp_path / "out", tiling=SMALL).counts()[ORPHANS] == 2


@pytest.mark.parametrize("version", ["1.0", "1.5", "2.0"])
def test_a_warning_names_the_label_folder_where_none_names_the_version(make_split, tmp_path, said, version):
    source = make_split(P1=SHIP)
    assert tile_dota([source], tmp_path / "out", tiling=SMALL, version=version).report.objects == 1
    assert f"no label folder names version {version}" in said.text
    assert f"looked for labelTxt-v{version}/labelTxt, " in said.text
    assert "its labels are taken from labelTxt\n" in said.text


def test_no_warning_where_a_folder_names_the_version_or_there_are_no_labels(make_split, tmp_path, said):
    source = make_split(P1=SHIP)
    tile_dota([source], tmp_path / "any", tiling=SMALL)
    (source / "labelTxt").rename(source / "labelTxt-v1.5")
    tile_dota([source], tmp_path / "named", tiling=SMALL, version="1.5")
    tile_dota([source], tmp_path / "test", tiling=SMALL, version="2.0")
    assert "names version" not in said.text


@pytest.mark.parametrize("error", [DataError("full"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_run_that_stops(make_split, tmp_path, monkeypatch, error):
    source = make_split(P1=SHIP)

    def stop(*_):
        raise error

    monkeypatch.setattr(tiling, "write_dota_txt", stop)
    with pytest.raises(type(error)):
        tile_dota([source], tmp_path / "made/out", tiling=SMALL)
    assert [path.name for path in (tmp_path / "made").iterdir()] == [".lock"]


def test_sources_are_not_replaced_by_what_is_made_of_them(make_split, tmp_path):
    source = make_split(P1=SHIP)
    tile_dota([source], tmp_path / "patches", tiling=SMALL)
    for out in (tmp_path / "patches", tmp_path, tmp_path / "patches/images"):
        with pytest.raises(DataError, match="holds files that it is made from"):
            tile_dota([tmp_path / "patches"], out, tiling=TilingSettings(window=32, gap=0))
    assert len(list((tmp_path / "patches/images").iterdir())) == 4
    with pytest.raises(DataError, match="two images are called P1") as caught:
        tile_dota([source, source], tmp_path / "out", tiling=SMALL)
    assert caught.value.fix == "name each folder once"


def test_fair1m_is_not_cut_into_a_part_of_itself(make_split, tmp_path):
    make_split("train/part1", P1=None)
    for source, out in (("train", "train/patches"), ("train/part1", "train/part1/a/b")):
        with pytest.raises(DataError, match="would be read as a part"):
            tile_fair1m([tmp_path / source], tmp_path / out, tiling=SMALL)
