"""Layouts of mirrors are found, and what is in them is read: lists of any name, label maps, bare images."""

import cv2
import numpy as np
import pytest
from locations import SAMPLES

from rsfoundation.core.errors import DataError
from rsfoundation.prepare.boxes import prepare_boxes
from rsfoundation.prepare.browse import draw_samples
from rsfoundation.prepare.check.items import read_splits
from rsfoundation.prepare.check.run import check_data
from rsfoundation.prepare.layouts import folder_datasets

XML = (
    "<annotation><size><width>64</width><height>48</height></size>"
    "<object><name>ship</name>{}</object></annotation>"
)
UPRIGHT = XML.format("<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>20</xmax><ymax>15</ymax></bndbox>")
TURNED = XML.format(
    "<robndbox><x_left_top>4</x_left_top><y_left_top>5</y_left_top><x_right_top>20</x_right_top>"
    "<y_right_top>5</y_right_top><x_right_bottom>20</x_right_bottom><y_right_bottom>15</y_right_bottom>"
    "<x_left_bottom>4</x_left_bottom><y_left_bottom>15</y_left_bottom></robndbox>"
)  # fmt: skip


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        cv2.imwrite(str(path), content)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)


def test_a_list_of_any_name_is_a_split_of_dior(tmp_path):
    put(tmp_path / "JPEGImage/00001.jpg", noise(0))
    put(tmp_path / "Annotations/Oriented Bounding Boxes/00001.xml", TURNED)
    put(tmp_path / "demo.txt", "00001\n")
    (split,) = read_splits(tmp_path)
    assert split.name == "demo" and len(split.items[0].quads) == 1
    assert prepare_boxes("dior", tmp_path, tmp_path.with_name("out")).objects == {"demo": 1}


def test_lists_of_splits_go_before_others(tmp_path):
    for name in ("train", "notes"):
        put(tmp_path / f"ImageSets/Main/{name}.txt", "00001\n")
    put(tmp_path / "Annotations/Horizontal Bounding Boxes/00001.xml", UPRIGHT)
    found = folder_datasets(tmp_path)
    assert [key for key in found if key.endswith("_dataloader")] == ["train_dataloader"]
    assert found["train_dataloader"]["dataset"]["boxes"] == "horizontal"


def test_dior_with_a_folder_for_each_split(tmp_path):
    for split in ("trainval", "test"):
        for number in range(2):
            put(tmp_path / f"Images/{split}/{number:05}.jpg", noise(number + len(split)))
            put(tmp_path / f"Annotations/{split}/{number:05}.xml", UPRIGHT)
    splits = {split.name: split for split in read_splits(tmp_path)}
    assert {name: len(split.items) for name, split in splits.items()} == {"trainval": 2, "test": 2}
    assert splits["test"].items[0].quads.tolist() == [[4, 5, 20, 5, 20, 15, 4, 15]]
    made = prepare_boxes("dior", tmp_path, tmp_path.with_name("out"))
    assert made.objects == {"trainval": 2, "test": 2}


def test_hrsid_s_label_maps(tmp_path):
    put(tmp_path / "images/P1.png", noise(0))
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[5:15, 4:20, 2] = 128  # red: OpenCV writes blue first
    put(tmp_path / "masks/P1_instance_color_RGB.png", mask)
    put(tmp_path / "masks/P1_instance_id_RGB.png", mask)
    (split,) = check_data(tmp_path).splits
    assert split.pixels == {"background": 48 * 64 - 160, "ship": 160}


def test_images_without_labels(tmp_path):
    put(tmp_path / "a.png", noise(0))
    put(tmp_path / "b.jpg", noise(1))
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    check = check_data(tmp_path)
    assert check.errors == 1 and check.splits[0].data.report.counts["unreadable images"] == 1
    put(tmp_path / "c.png", noise(2))
    assert check_data(tmp_path).errors == 0
    assert len(draw_samples(tmp_path, tmp_path / "out", split="all")) == 3


def test_a_folder_of_neither_is_refused(tmp_path):
    put(tmp_path / "notes.txt", "nothing")
    with pytest.raises(DataError, match="no known layout"):
        folder_datasets(tmp_path)


@pytest.mark.skipif(not SAMPLES.exists(), reason="no samples")
@pytest.mark.parametrize(
    "folder",
    [
        "demo_images", "dior_mmrotate", "dota_devkit_example", "dota_mmrotate", "dota_mmrotate_v0",
        "hrsid_sample", "levir_cd_bitcd", "loveda_mmseg", "nwpu_vhr10_rsprompter", "potsdam_mmseg",
        "ssdd_rsprompter", "vaihingen_mmseg", "torchgeo_fake/dior", "torchgeo_fake/dota",
        "torchgeo_fake/fair1m", "torchgeo_fake/levircd", "torchgeo_fake/loveda", "torchgeo_fake/potsdam",
        "torchgeo_fake/vaihingen",
    ],
)  # fmt: skip
def test_samples_are_read_without_errors_and_drawn(folder, tmp_path):
    check = check_data(SAMPLES / folder)
    assert check.errors == 0 and check.splits
    for split in check.splits:
        drawn = draw_samples(SAMPLES / folder, tmp_path / split.data.name, split=split.data.name, sheet=True)
        assert drawn and cv2.imread(str(drawn[0])) is not None
