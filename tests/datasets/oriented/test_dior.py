"""DIOR and DIOR-R: lists, both kinds of boxes, spelling of names, and files that upstream stumbles over."""

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.dior import DIORDataset

CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")


def oriented(name, corners=(10, 10, 30, 12, 29, 22, 9, 20), difficult=0):
    pairs = zip(CORNERS, corners[::2], corners[1::2], strict=True)
    box = "".join(f"<x_{corner}>{x}</x_{corner}><y_{corner}>{y}</y_{corner}>" for corner, x, y in pairs)
    return (
        f"<object><type>robndbox</type><name>{name}</name><difficult>{difficult}</difficult>"
        f"<robndbox>{box}</robndbox><angle>0</angle></object>"
    )


def xml(*objects, width=64, height=48):
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def dior(tmp_path, draw, write):
    labels = tmp_path / "Annotations/Oriented Bounding Boxes"
    for name, folder in (("00001", "trainval"), ("00002", "trainval"), ("00003", "test")):
        draw(tmp_path / f"JPEGImages-{folder}/{name}.jpg")
    write(labels / "00001.xml", xml(oriented("Expressway-Service-area"), oriented("storage tank")))
    write(labels / "00002.xml", xml(oriented("ship", difficult=1)))
    write(labels / "00003.xml", xml())
    for split, names in (("train", "00001\n"), ("val", "00002\n"), ("test", "00003\n")):
        write(tmp_path / f"ImageSets/Main/{split}.txt", names)
    return tmp_path


def read(root, **kwargs):
    return DIORDataset(data_root=str(root), **kwargs)


def test_trainval_is_both_lists_in_order(dior):
    data = read(dior)
    assert [entry["img_id"] for entry in data.data_list] == ["00001", "00002"]
    assert [entry["img_id"] for entry in read(dior, split="test").data_list] == ["00003"]
    assert [entry["img_id"] for entry in read(dior, split=["val", "test"]).data_list] == ["00002", "00003"]


def test_names_are_compared_without_spelling(dior):
    data = read(dior)
    names = [data.metainfo["classes"][label] for label in data.get_cat_ids(0)]
    assert names == ["expressway-service-area", "storagetank"]


def test_corners_size_and_difficulty(dior):
    entry = read(dior, ignore_difficulty=1).get_data_info(1)
    assert entry["instances"] == [
        {"bbox": [10, 10, 30, 12, 29, 22, 9, 20], "bbox_label": 13, "ignore_flag": 1}
    ]
    assert (entry["width"], entry["height"]) == (64, 48)


def test_horizontal_boxes(dior, write):
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>13</xmax><ymax>24</ymax></bndbox>"
    for name in ("00001", "00002"):
        file = dior / f"Annotations/Horizontal Bounding Boxes/{name}.xml"
        write(file, xml(f"<object><name>dam</name>{box}</object>"))
    data = read(dior, boxes="horizontal")
    assert data.get_data_info(0)["instances"][0]["bbox"] == [3, 4, 13, 4, 13, 24, 3, 24]


def test_unknown_names_stop_or_are_counted(dior, write):
    file = write(dior / "Annotations/Oriented Bounding Boxes/00002.xml", xml(oriented("wind mil")))
    with pytest.raises(DataError, match="'wind mil'; did you mean 'windmill'") as caught:
        read(dior)
    assert caught.value.where == str(file)
    data = read(dior, on_error="skip")
    assert data.report.counts == {"objects of unknown classes": 1}
    assert data.report.files == {"objects of unknown classes": ["00002.xml"]}


def test_a_subset_of_the_classes_leaves_the_others_out(dior):
    data = read(dior, metainfo={"classes": ("ship",)})
    assert data.report.counts == {
        "objects of class Expressway-Service-area": 1,
        "objects of class storage tank": 1,
    }
    assert data.get_cat_ids(1) == [0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("<annotation>", "no xml"),
        (xml(oriented("ship").replace("<x_left_top>10</x_left_top>", "<x_left_top>1O</x_left_top>")), "1O"),
        (xml(oriented("ship").replace("<name>ship</name>", "")), "no <name>"),
        (xml("<object><name>ship</name></object>"), "no <robndbox> and no <bndbox>"),
        (xml(oriented("ship", difficult="hard")), "no whole number"),
        (xml(oriented("ship", (float("nan"), 0, 1, 1, 2, 2, 3, 3))), "not finite"),
    ],
)
def test_malformed_files_stop_or_are_counted(dior, write, content, sentence):
    write(dior / "Annotations/Oriented Bounding Boxes/00002.xml", content)
    with pytest.raises(DataError, match=sentence) as caught:
        read(dior)
    assert "00002.xml" in caught.value.where
    data = read(dior, on_error="skip")
    assert sum(data.report.counts.values()) == 1
    assert [*data.report.files.values()] == [["00002.xml"]]


def test_lists_and_files_that_do_not_agree(dior, write):
    with pytest.raises(DataError, match="no list of the split 'trainvall'"):
        read(dior, split="trainvall")
    write(dior / "ImageSets/Main/val.txt", "00002 00001 00002 00009\n")
    with pytest.raises(DataError, match="00001 is listed twice"):
        read(dior)
    data = read(dior, on_error="skip")
    assert len(data) == 2
    assert data.report.counts == {"names listed twice": 2, "listed images that do not exist": 1}
    (dior / "Annotations/Oriented Bounding Boxes/00001.xml").unlink()
    with pytest.raises(DataError, match="no label file"):
        read(dior, split="train")
    write(dior / "ImageSets/Main/empty.txt", "\n")
    with pytest.raises(DataError, match="the list is empty"):
        read(dior, split="empty")


def test_a_test_split_may_have_no_labels(dior):
    assert read(dior, split="test", label_dir="absent", test_mode=True).get_data_info(0)["instances"] == []
    with pytest.raises(DataError, match="no label folder"):
        read(dior, split="test", label_dir="absent")


def test_the_real_sample(samples):
    data = read(samples / "dior_mmrotate", split="demo")
    entry = data.get_data_info(0)
    assert entry["instances"][0]["bbox"] == [133, 237, 684, 237, 684, 672, 133, 672]
    assert data.metainfo["classes"][entry["instances"][0]["bbox_label"]] == "golffield"
