"""FAIR1M: xml, parts, names with blanks; as distributed and as tiled."""

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.dota import FAIR1MDataset
from rsfoundation.geometry.tiling import TilingSettings
from rsfoundation.io.xml_labels import read_fair1m_xml
from rsfoundation.prepare.tiling import LOST, tile_fair1m

CORNERS = ("5.0,5.0", "25.000000, 5.000000", "25,15", "5,15")


def thing(name, points=CORNERS, repeat=True):
    rows = [*points, points[0]] if repeat else points
    listed = "".join(f"<point>{row}</point>" for row in rows)
    return (
        "<object><coordinate>pixel</coordinate><type>rectangle</type><description>None</description>"
        f"<possibleresult><name>{name}</name></possibleresult><points>{listed}</points></object>"
    )


def xml(*things):
    return (
        "<annotation><source><filename>1.tif</filename><origin>GF2</origin></source>"
        "<size><width>64</width><height>48</height><depth>3</depth></size>"
        f"<objects>{''.join(things)}</objects></annotation>"
    )


@pytest.fixture
def fair1m(tmp_path, draw, write):
    root = tmp_path / "FAIR1M"
    for part, name, content in (
        ("part1", "1", xml(thing("Passenger Ship"), thing("other-airplane", repeat=False))),
        ("part1", "2", xml()),
        ("part2", "1", xml(thing("A220"))),
    ):
        draw(root / f"train/{part}/images/{name}.tif")
        folder = "labelXml" if part == "part1" else "labelXmls"
        write(root / f"train/{part}/{folder}/{name}.xml", content)
    return root


def read(root, **kwargs):
    return FAIR1MDataset(data_root=str(root), **kwargs)


def test_as_distributed_parts_are_one_split_with_names_of_their_own(fair1m):
    data = read(fair1m)
    assert [entry["img_id"] for entry in data.data_list] == ["part1_1", "2", "part2_1"]
    names = [data.metainfo["classes"][label] for label in data.get_cat_ids(0)]
    assert names == ["Passenger_Ship", "other-airplane"]
    entry = data.get_data_info(0)
    assert entry["instances"][0]["bbox"] == [5, 5, 25, 5, 25, 15, 5, 15]
    assert (entry["width"], entry["height"]) == (64, 48)
    assert [entry["img_id"] for entry in read(fair1m, split="train/part2").data_list] == ["1"]


def test_origin_is_kept(fair1m):
    assert read_fair1m_xml(fair1m / "train/part1/labelXml/1.xml").source == "GF2"


def test_tiled_patches_hold_the_same_objects(fair1m, tmp_path):
    tiling = TilingSettings(window=64, gap=16)
    made = tile_fair1m([fair1m / "train"], tmp_path / "patches/train", tiling=tiling)
    assert (made.report.images, made.patches, made.report.objects) == (3, 3, 3)
    assert (made.placed, made.counts()[LOST]) == (3, 0)
    assert (tmp_path / "patches/train/annfiles/part1_1__64__0___0.txt").read_text() == (
        "5 5 25 5 25 15 5 15 Passenger_Ship 0\n5 5 25 5 25 15 5 15 other-airplane 0\n"
    )
    tiled, whole = read(tmp_path / "patches"), read(fair1m)
    for first, second in zip(
        sorted(tiled.data_list, key=lambda e: e["img_id"]),
        sorted(whole.data_list, key=lambda e: e["img_id"]),
        strict=True,
    ):
        assert first["img_id"].startswith(second["img_id"]) and first["instances"] == second["instances"]


def test_the_shipped_tilings(fair1m):
    assert FAIR1MDataset.TILINGS["ss"].gap == 256 and FAIR1MDataset.TILINGS["ms"].gap == 500
    with pytest.raises(DataError, match="no such tiling makes"):
        read(fair1m, preset="ms")


def test_validation_and_test_folders(fair1m, draw, write):
    draw(fair1m / "validation/images/0.tif")
    write(fair1m / "validation/labelXml/0.xml", xml(thing("Bus")))
    draw(fair1m / "test/images/0.tif")
    assert len(read(fair1m, split="validation").get_cat_ids(0)) == 1
    assert read(fair1m, split="test", test_mode=True).get_data_info(0)["instances"] == []
    with pytest.raises(DataError, match="no label folder"):
        read(fair1m, split="test")
    assert len(read(fair1m, split=["train", "validation"])) == 4


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (thing("Bus", CORNERS[:3], repeat=False), "3 points"),
        (thing("Bus", ("1;2", *CORNERS[1:])), "is not 'x,y'"),
        (thing(""), "no <possibleresult/name>"),
        (thing("Tank"), "unknown class 'Tank'"),
    ],
)
def test_malformed_objects_stop_or_are_counted(fair1m, write, bad, sentence):
    write(fair1m / "train/part1/labelXml/2.xml", xml(bad))
    with pytest.raises(DataError, match=sentence):
        read(fair1m)
    data = read(fair1m, on_error="skip")
    assert list(data.report.counts.values()) == [1] and [*data.report.files.values()] == [["2.xml"]]


def test_files_of_another_format_are_refused(fair1m, write):
    write(
        fair1m / "train/part1/labelXml/2.xml", "<annotation><object><name>A220</name></object></annotation>"
    )
    with pytest.raises(DataError, match="no <objects>") as caught:
        read(fair1m)
    assert caught.value.where.endswith("part1/labelXml/2.xml")
    assert read(fair1m, on_error="skip").report.counts == {"unreadable label files": 1}


def test_the_layout_of_the_fake_sample(samples):
    data = read(samples / "torchgeo_fake/fair1m")
    assert len(data) == 8 and sum(data.report.counts.values()) >= 1  # its boxes are one pixel wide
    assert {entry["img_id"] for entry in data.data_list} >= {"part1_0", "part2_3"}
