"""The DOTA reader: layouts, order, what is left out, and what stops it."""

import logging

import pytest
from locations import SAMPLES
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.datasets.oriented.dota import DOTADataset

SHIP = "10 10 30 10 30 20 10 20 ship 0"


def read(root, **kwargs):
    return DOTADataset(data_root=str(root), serialize_data=False, **kwargs)


@pytest.mark.parametrize("folder", ["labelTxt", "annfiles"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".TIF", ".bmp"])
def test_layouts_and_suffixes(make_split, folder, suffix):
    data = read(make_split({"a": SHIP}, folder=folder, suffix=suffix))
    info = data.get_data_info(0)
    assert info["img_id"] == "a" and info["img_path"].endswith(f"a{suffix}")
    assert info["instances"] == [
        {"bbox": [10, 10, 30, 10, 30, 20, 10, 20], "bbox_label": 6, "ignore_flag": 0}
    ]
    assert data.get_cat_ids(0) == [6]


def test_order_is_that_of_names(make_split):
    data = read(make_split(dict.fromkeys(("P10", "P2", "P1"), SHIP)))
    assert [info["img_id"] for info in data.data_list] == ["P1", "P10", "P2"]


def test_named_label_folder(make_split):
    root = make_split({"a": SHIP}, folder="labelTxt-v1.5")
    assert len(read(root, label_dir="labelTxt-v1.5", version="1.5")) == 1
    with pytest.raises(DataError, match="'labels' not found"):
        read(root, label_dir="labels")


@pytest.mark.parametrize(("version", "count"), [("1.0", 15), ("1.5", 16), ("2.0", 18)])
def test_class_lists(make_split, version, count):
    meta = read(make_split({"a": SHIP}), version=version).metainfo
    assert len(meta["classes"]) == len(meta["palette"]) == count
    assert meta["classes"] == DOTA_CLASSES[version]


def test_own_classes_by_one_line(make_split):
    data = read(
        make_split({"a": f"{SHIP}\n1 1 9 1 9 9 1 9 barge 0"}), metainfo={"classes": ("barge", "ship")}
    )
    assert data.get_cat_ids(0) == [1, 0]
    assert len(data.metainfo["palette"]) == 2


def test_empty_files_are_images_without_objects(make_split):
    root = make_split({"a": SHIP, "b": "", "c": "imagesource:x\ngsd:null\n"})
    assert len(read(root)) == 3
    assert len(read(root, filter_cfg={"filter_empty_gt": True})) == 1
    assert len(read(root, filter_cfg={"filter_empty_gt": True}, test_mode=True)) == 3


def test_tiny_boxes_and_other_dota_classes_are_counted(make_split, caplog):
    tiny = "5 5 20 5 20 6.9 5 6.9 ship 0"
    point = "5 5 5 5 5 5 5 5 ship 0"
    other = "1 1 9 1 9 9 1 9 helipad 0"
    MMLogger.get_current_instance().addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        data = read(make_split({"a": "\n".join([SHIP, tiny, point, other])}))
    MMLogger.get_current_instance().removeHandler(caplog.handler)
    assert len(data.get_cat_ids(0)) == 1
    assert data.report.counts == {"boxes under 2 px": 2, "objects of class helipad": 1}
    assert "2 boxes under 2 px" in caplog.text and "1 objects of class helipad" in caplog.text


@pytest.mark.parametrize(("limit", "flags"), [(None, [0, 0, 0]), (2, [0, 0, 1]), (1, [0, 1, 1])])
def test_difficulty_as_ignore(make_split, limit, flags):
    rows = "\n".join(f"{SHIP[:-1]}{difficulty}" for difficulty in (0, 1, 2))
    data = read(make_split({"a": rows}), ignore_difficulty=limit)
    assert [item["ignore_flag"] for item in data.get_data_info(0)["instances"]] == flags


def test_unknown_class_names_the_line_and_the_nearest(make_split):
    root = make_split({"a": f"gsd:1\n{SHIP}\n1 1 9 1 9 9 1 9 small-vehicel 0"})
    with pytest.raises(DataError, match="did you mean 'small-vehicle'") as caught:
        read(root)
    assert caught.value.where.endswith("a.txt:3")
    assert read(root, on_error="skip").report.counts == {"objects of unknown classes": 1}


def test_malformed_line_by_policy(make_split):
    root = make_split({"a": f"{SHIP}\n1 2 3 ship 0"})
    with pytest.raises(DataError) as caught:
        read(root)
    assert caught.value.where.endswith("a.txt:2")
    data = read(root, on_error="skip")
    assert data.report.counts == {"malformed label lines": 1} and len(data.get_cat_ids(0)) == 1


def test_broken_images_are_found_before_the_start_under_skip(make_split):
    root = make_split({"a": SHIP, "b": SHIP, "c": SHIP})
    (root / "train/images/b.png").write_bytes(b"no image")
    (root / "train/images/c.png").write_bytes(b"")
    assert len(read(root)) == 3
    data = read(root, on_error="skip")
    assert [info["img_id"] for info in data.data_list] == ["a"]
    assert data.report.counts == {"unreadable images": 2}


def test_image_without_label_by_policy(make_split):
    root = make_split({"a": SHIP, "b": None})
    with pytest.raises(DataError, match="1 of 2 images have no label file"):
        read(root)
    assert read(root, on_error="skip").report.counts == {"images without a label file": 1}


def test_label_without_image_is_told(make_split):
    root = make_split({"a": SHIP})
    (root / "train/labelTxt/z.txt").write_text(SHIP)
    assert read(root).report.counts == {"label files without an image": 1}


def test_unlabelled_split_is_for_testing_only(make_split):
    root = make_split({"a": None}, split="test")
    (root / "test/labelTxt").rmdir()
    assert read(root, split="test", test_mode=True).get_data_info(0)["instances"] == []
    with pytest.raises(DataError, match="no label folder"):
        read(root, split="test")


def test_missing_folders_say_layout_and_command(tmp_path, make_split):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "absent")
    assert "absent" in caught.value.where
    assert "labelTxt" in caught.value.what and "rsf prepare" in caught.value.fix
    root = make_split({"a": SHIP})
    with pytest.raises(DataError, match="val"):
        read(root, split="val")
    (root / "val/images").mkdir(parents=True)
    with pytest.raises(DataError, match="no image in the folder"):
        read(root, split="val")


def test_two_images_of_one_stem(make_split):
    root = make_split({"a": SHIP})
    make_split({"a": SHIP}, suffix=".jpg")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png"):
        read(root)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data")
def test_real_images_with_labels_of_absent_ones():
    data = read(SAMPLES, split="dota_devkit_example")
    assert len(data) == 2
    assert data.report.counts["label files without an image"] == 5
    assert [len(info["instances"]) for info in data.data_list] == [536, 64]


def test_an_unknown_preset_is_refused(make_split):
    with pytest.raises(ConfigError, match="no preset 'xs'") as caught:
        DOTADataset(data_root=str(make_split({"a": ""})), preset="xs")
    assert "ss, ms" in caught.value.fix


def test_versions_may_be_numbers_and_must_exist(make_split):
    root = str(make_split({"a": ""}))
    assert DOTADataset(data_root=root, version=2).metainfo["classes"] == DOTA_CLASSES["2.0"]
    assert DOTADataset(data_root=root, version=1.5).metainfo["classes"] == DOTA_CLASSES["1.5"]
    with pytest.raises(ConfigError, match=r"no version '3\.0'"):
        DOTADataset(data_root=root, version="3.0")


def test_a_training_set_without_an_object_is_refused(make_split):
    root = str(make_split({"a": "", "b": ""}))
    with pytest.raises(DataError, match="none of 2 images has an object"):
        DOTADataset(data_root=root, filter_cfg=dict(filter_empty_gt=True))
    assert len(DOTADataset(data_root=root, filter_cfg=dict(filter_empty_gt=True), test_mode=True)) == 2
