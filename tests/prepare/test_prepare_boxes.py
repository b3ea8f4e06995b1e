"""Data sets of oriented boxes, laid out from folders and archives as their configs read them."""

import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
from check_samples import SIDE, boxes, label_lines, save, texture

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.io.dota import LabelledBox
from rsfoundation.io.xml_labels import write_voc_xml
from rsfoundation.prepare.boxes import prepare_boxes
from rsfoundation.prepare.check.run import check_data
from rsfoundation.registry import DATASETS


def objects(seed, count=2):
    return [LabelledBox(tuple(quad), "ship") for quad in boxes(seed, count=count).tolist()]


def make_dior(root):
    for number, split in enumerate(("train", "val", "test")):
        name = f"{number:05d}"
        folder = "JPEGImages-test" if split == "test" else "JPEGImages-trainval"
        save(root / folder / f"{name}.jpg", texture(number))
        labels = root / "Annotations/Oriented Bounding Boxes"
        labels.mkdir(parents=True, exist_ok=True)
        write_voc_xml(labels / f"{name}.xml", f"{name}.jpg", (SIDE, SIDE), objects(number))
        (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Main/{split}.txt").write_text(f"{name}\n")


def make_hrsc(root):
    make = (
        "<HRSC_Image><Img_SizeWidth>96</Img_SizeWidth><Img_SizeHeight>96</Img_SizeHeight>"
        "<HRSC_Objects>{}</HRSC_Objects></HRSC_Image>"
    )
    ship = (
        "<HRSC_Object><Class_ID>100000001</Class_ID><difficult>0</difficult><mbox_cx>40</mbox_cx><mbox_cy>50</mbox_cy>"
        "<mbox_w>30</mbox_w><mbox_h>8</mbox_h><mbox_ang>-0.5</mbox_ang></HRSC_Object>"
    )
    for number, split in enumerate(("train", "test")):
        save(root / f"FullDataSet/AllImages/10000000{number}.bmp", texture(number))
        (root / "FullDataSet/Annotations").mkdir(exist_ok=True)
        (root / f"FullDataSet/Annotations/10000000{number}.xml").write_text(make.format(ship * number))
        (root / "ImageSets").mkdir(exist_ok=True)
        (root / f"ImageSets/{split}.txt").write_text(f"10000000{number}\n")


def make_ssdd(root):
    for number, split in enumerate(("train", "test")):
        save(root / split / f"images/{number}.png", texture(number))
        (root / split / "labelTxt").mkdir()
        (root / split / f"labelTxt/{number}.txt").write_text(label_lines(boxes(number, count=3)))


def make_hrsid(root):
    (root / "annotations").mkdir(parents=True)
    for number, split in enumerate(("train", "test")):
        save(root / f"JPEGImages/{split}.jpg", texture(number))
        shape = [10, 10, 40, 20, 36, 32, 6, 22]
        box = dict(bbox=[6, 10, 34, 22], segmentation=[shape], area=396, iscrowd=0)
        content = dict(
            images=[dict(id=1, file_name=f"{split}.jpg", width=SIDE, height=SIDE)],
            annotations=[dict(id=1, image_id=1, category_id=1, **box)],
            categories=[dict(id=1, name="ship")],
        )  # fmt: skip
        (root / f"annotations/{split}2017.json").write_text(json.dumps(content))


def make_nwpu(root):
    save(root / "positive image set/001.jpg", texture(1))
    save(root / "negative image set/001.jpg", texture(2))
    (root / "ground truth").mkdir()
    (root / "ground truth/001.txt").write_text("(10,10),(30,40),1\n(50,50),(60,70),2\n")


MAKERS = {
    "dior": (make_dior, {"test": (1, 2), "train": (1, 2), "val": (1, 2)}),
    "hrsc": (make_hrsc, {"test": (1, 1), "train": (1, 0)}),
    "ssdd": (make_ssdd, {"train": (1, 3), "test": (1, 3)}),
    "hrsid": (make_hrsid, {"train": (1, 1), "test": (1, 1)}),
    "nwpu-vhr10": (make_nwpu, {"all": (2, 2)}),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", MAKERS)
def test_layouts_from_folders_and_archives(tmp_path, kind, packed):
    make, expected = MAKERS[kind]
    root = tmp_path / "download/wrapped"
    make(root)
    source = root.parent
    if packed:
        shutil.make_archive(str(tmp_path / "set"), "zip", source)
        shutil.rmtree(source)
        source = tmp_path / "set.zip"
    out = tmp_path / "data" / kind
    made = prepare_boxes(kind, source, out)
    assert {split: (made.images[split], made.objects[split]) for split in made.images} == expected
    assert not made.reused and prepare_boxes(kind, source, out).reused
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".") and path.is_dir()]
    check = check_data(str(out))
    splits = {"annotations"} if kind == "nwpu-vhr10" else set(expected)
    assert not check.errors and set(check.reports) == {*splits, "between splits"}
    if packed:
        assert not any(path.is_symlink() for path in out.rglob("*")), "the archive may be removed"


def test_broken_labels_stop_or_are_counted(tmp_path):
    make_ssdd(tmp_path / "set")
    label = tmp_path / "set/test/labelTxt/1.txt"
    label.write_text(label.read_text() + "1 2 3 ship\n")
    with pytest.raises(DataError, match="malformed") as caught:
        prepare_boxes("ssdd", tmp_path / "set", tmp_path / "out")
    assert str(caught.value.where).endswith("1.txt:4") and not (tmp_path / "out").exists()
    made = prepare_boxes("ssdd", tmp_path / "set", tmp_path / "out", on_error="skip")
    assert made.report.counts == {"malformed label lines": 1} and made.objects == {"train": 3, "test": 3}


def test_wrong_sources_and_kinds(tmp_path):
    with pytest.raises(ConfigError, match="dior"):
        prepare_boxes("dioor", tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="no such folder"):
        prepare_boxes("dior", tmp_path / "none", tmp_path / "out")
    (tmp_path / "rar").mkdir()
    (tmp_path / "rar/HRSC2016.part01.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="own program") as caught:
        prepare_boxes("hrsc", tmp_path / "rar", tmp_path / "out")
    assert "7z" in caught.value.fix
    make_dior(tmp_path / "dior")
    with pytest.raises(DataError, match="HRSC2016"):
        prepare_boxes("hrsc", tmp_path / "dior", tmp_path / "out")
    with pytest.raises(DataError):
        prepare_boxes("dior", tmp_path / "dior", tmp_path / "dior")
    assert (tmp_path / "dior/ImageSets").is_dir()


def test_an_archive_with_a_path_outside_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        packed.writestr("../evil.txt", "x")
    with pytest.raises(DataError, match="outside"):
        prepare_boxes("dior", tmp_path / "set.zip", tmp_path / "out/dior")
    assert not (tmp_path / "evil.txt").exists() and not (tmp_path / "out/dior").exists()


def test_second_has_land_cover_and_the_map_of_change(tmp_path):
    from rsfoundation.prepare.maps import prepare_maps

    white, water, building = (255, 255, 255), (0, 0, 255), (128, 0, 0)
    cover = np.full((2, 64, 64, 3), white, np.uint8)
    cover[0, 10:30, 10:30], cover[1, 10:30, 10:30] = water, building
    for split in ("train", "val"):
        for date in (0, 1):
            save(tmp_path / f"SECOND/{split}/im{date + 1}/00001.png", texture(date, 64))
            save(tmp_path / f"SECOND/{split}/label{date + 1}/00001.png", cover[date])
    made = prepare_maps("second", tmp_path / "SECOND", tmp_path / "out")
    assert made.tiles == {"train": 1, "val": 1}
    data = DATASETS.build(
        dict(
            type="rsfoundation.SECOND_Dataset",
            data_root=str(tmp_path / "out"),
            data_prefix=dict(
                img_path_from="train/im1", img_path_to="train/im2", seg_map_path="train/label",
                seg_map_path_from="train/label1", seg_map_path_to="train/label2",
            ),
            pipeline=[
                dict(type="rsfoundation.MultiImgLoadImageFromFile"),
                dict(type="rsfoundation.MultiImgMultiAnnLoadAnnotations"),
            ],
        )
    )  # fmt: skip
    entry = data[0]
    assert entry["gt_seg_map"].sum() == 400 and set(np.unique(entry["gt_seg_map"])) == {0, 1}
    assert entry["gt_seg_map_from"][20, 20] == 0 and entry["gt_seg_map_to"][20, 20] == 4
    assert (entry["gt_seg_map_from"] == 255).sum() == 64 * 64 - 400, "unchanged land has no class"
    assert cv2.imread(str(tmp_path / "out/train/label1/00001.png"))[20, 20].tolist() == [255, 0, 0]
    cover[1, 12, 12] = white
    save(tmp_path / "SECOND/val/label2/00001.png", cover[1])
    with pytest.raises(DataError, match="disagree"):
        prepare_maps("second", tmp_path / "SECOND", tmp_path / "out2")
