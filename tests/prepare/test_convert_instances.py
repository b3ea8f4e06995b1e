"""WHU Building's masks and NWPU VHR-10's text files as COCO json."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.instance import NWPUInsSegDataset, WHUInsSegDataset
from rsfoundation.datasets.segmentation import ISAIDDataset
from rsfoundation.prepare.instances import convert_instances
from rsfoundation.prepare.maps import prepare_maps

SIDE = 32


@pytest.fixture
def whu(tmp_path):
    root = tmp_path / "whu"
    for folder in ("image", "label"):
        (root / "test" / folder).mkdir(parents=True)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:6, 2:6] = 255
    mask[6:10, 6:10] = 1  # touches the first at a corner
    mask[2:6, 20:24] = 255
    mask[6:9, 20:22] = 255  # shares a side with the one above
    mask[30, 30] = 255
    for name, values in (("1", mask), ("2", np.zeros_like(mask))):
        cv2.imwrite(str(root / f"test/image/{name}.tif"), np.full((SIDE, SIDE, 3), 80, np.uint8))
        cv2.imwrite(str(root / f"test/label/{name}.tif"), values)
    return root, mask


def test_touching_buildings_are_one_and_those_at_a_corner_two(whu, tmp_path):
    root, mask = whu
    made = convert_instances("whu", root, tmp_path / "a.json", split="test")
    content = json.loads(made.path.read_text())
    assert (made.report.images, made.report.objects) == (2, 4)
    boxes = sorted(item["bbox"] for item in content["annotations"])
    assert boxes == [[2, 2, 4, 4], [6, 6, 4, 4], [20, 2, 4, 7], [30, 30, 1, 1]]
    assert [item["id"] for item in content["annotations"]] == [1, 2, 3, 4]
    masks = [coco_mask.decode(item["segmentation"]) for item in content["annotations"]]
    assert np.array_equal(np.sum(masks, axis=0), mask != 0)
    assert [item["area"] for item in content["annotations"]] == [one.sum() for one in masks]
    assert content["images"][0]["file_name"] == "1.tif"
    one = convert_instances("whu", root, tmp_path / "b.json", split="test", connectivity=8)
    assert one.report.objects == 3
    few = convert_instances("whu", root, tmp_path / "c.json", split="test", min_area=2)
    assert few.report.objects == 3 and few.report.counts == {"components under 2 px": 1}


def test_the_data_set_reads_what_was_written(whu, tmp_path):
    root, _ = whu
    made = convert_instances("whu", root, root / "annotations/WHU_building_test.json", split="test")
    data = WHUInsSegDataset(
        data_root=str(root),
        ann_file=str(made.path),
        data_prefix=dict(img="test/image"),
        test_mode=True,
        pipeline=[],
    )
    assert len(data) == 2 and data.report.counts == {}
    assert len(data.get_data_info(0)["instances"]) == 4


def test_masks_of_another_size_and_missing_ones(whu, tmp_path):
    root, mask = whu
    cv2.imwrite(str(root / "test/label/2.tif"), mask[:16])
    with pytest.raises(DataError, match="the mask is 32 x 16 px, the image 32 x 32") as raised:
        convert_instances("whu", root, tmp_path / "a.json", split="test")
    assert raised.value.where.endswith("2.tif") and not (tmp_path / "a.json").exists()
    kept = convert_instances("whu", root, tmp_path / "a.json", split="test", on_error="skip")
    assert kept.report.images == 1 and kept.report.counts == {"unreadable images and masks": 1}
    (root / "test/label/2.tif").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no mask, first: 2\.tif"):
        convert_instances("whu", root, tmp_path / "a.json", split="test")


@pytest.fixture
def nwpu(tmp_path):
    root = tmp_path / "NWPU VHR-10 dataset"
    for folder in ("positive image set", "negative image set", "ground truth"):
        (root / folder).mkdir(parents=True)
    for name in ("positive image set/001.jpg", "positive image set/002.jpg", "negative image set/001.jpg"):
        cv2.imwrite(str(root / name), np.full((60, 80, 3), 80, np.uint8))
    (root / "ground truth/001.txt").write_text("(10,12),(30,40),1 \n( 50,5),(79,20),10\n\n")
    (root / "ground truth/002.txt").write_text("(70,50),(95,70),3\n")
    return root


def test_text_files_of_nwpu(nwpu, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "instances", "nwpu", str(nwpu), "-o", str(tmp_path / "a.json")])
    assert stop.value.code == 0 and "objects" in capsys.readouterr().out
    content = json.loads((tmp_path / "a.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [
        "positive image set/001.jpg",
        "positive image set/002.jpg",
        "negative image set/001.jpg",
    ]
    found = [(item["image_id"], item["category_id"], item["bbox"]) for item in content["annotations"]]
    assert found == [(1, 1, [10, 12, 20, 28]), (1, 10, [50, 5, 29, 15]), (2, 3, [70, 50, 10, 10])]
    data = NWPUInsSegDataset(
        data_root=str(nwpu),
        ann_file=str(tmp_path / "a.json"),
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=[],
    )
    assert [len(data.get_data_info(index)["instances"]) for index in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(
    "line", ["10,12,30,40,1", "(10,12),(30,40),11", "(30,12),(30,40),1", "(90,0),(95,9),1"]
)
def test_malformed_lines_of_nwpu(nwpu, tmp_path, line):
    (nwpu / "ground truth/002.txt").write_text(f"(1,1),(9,9),2\n{line}\n")
    with pytest.raises(DataError, match="malformed label line") as raised:
        convert_instances("nwpu", nwpu, tmp_path / "a.json")
    assert raised.value.where.endswith("002.txt:2")
    kept = convert_instances("nwpu", nwpu, tmp_path / "a.json", on_error="skip")
    assert kept.report.objects == 3 and kept.report.counts == {"malformed label lines": 1}


def test_options_that_do_not_fit(nwpu, tmp_path):
    for options, message in (
        (dict(split="train"), "no split 'train'"),
        (dict(connectivity=6), "connectivity is 6"),
    ):
        with pytest.raises(ConfigError, match=message):
            convert_instances("nwpu", nwpu, tmp_path / "a.json", **options)
    with pytest.raises(ConfigError, match="there is no kind 'coco'"):
        convert_instances("coco", nwpu, tmp_path / "a.json")
    with pytest.raises(ConfigError, match="has splits"):
        convert_instances("whu", nwpu, tmp_path / "a.json")


def make_isaid(root):
    """Write an image of 96 px with two ships that touch, and a plane that the middle column cuts."""
    palette = ISAIDDataset.METAINFO["palette"]
    numbers, classes = np.zeros((96, 96), np.int64), np.zeros((96, 96), np.int64)
    plane = ISAIDDataset.METAINFO["classes"].index("plane")
    for number, place, kind in (
        (255, np.s_[10:20, 10:20], 1),
        (70000, np.s_[10:20, 20:30], 1),
        (9, np.s_[40:60, 38:58], plane),
    ):
        numbers[place], classes[place] = number, kind
    packed = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    for folder, picture, end in (
        ("images", np.full((96, 96, 3), 90), ""),
        ("Instance_masks", packed, "_instance_id_RGB"),
        ("Semantic_masks", np.array(palette)[classes], "_instance_color_RGB"),
    ):
        (root / "train" / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "train" / folder / f"P0001{end}.png"), picture[..., ::-1].astype(np.uint8))
    return plane


def test_isaid_instances_of_whole_images_and_of_tiles(tmp_path):
    plane = make_isaid(tmp_path / "isaid")
    made = convert_instances("isaid", tmp_path / "isaid", tmp_path / "whole.json", split="train")
    coco = COCO(str(made.path))
    found = {(a["category_id"], a["area"], tuple(a["bbox"])) for a in coco.dataset["annotations"]}
    assert found == {(1, 100, (10, 10, 10, 10)), (1, 100, (20, 10, 10, 10)), (plane, 400, (38, 40, 20, 20))}
    prepare_maps("isaid", tmp_path / "isaid", tmp_path / "tiles", window=48, stride=48)
    tiles = tmp_path / "tiles/img_dir/train"
    made = convert_instances("isaid", tmp_path / "isaid", tmp_path / "tiles.json", split="train", tiles=tiles)
    coco = COCO(str(made.path))
    assert {image["file_name"] for image in coco.dataset["images"]} == {p.name for p in tiles.iterdir()}
    planes = [a for a in coco.dataset["annotations"] if a["category_id"] == plane]
    assert sum(a["area"] for a in planes) == 400 and len(planes) == 4, "cut at the borders of the tiles"
    names = {image["id"]: image["file_name"] for image in coco.dataset["images"]}
    cut = next(a for a in planes if names[a["image_id"]] == "P0001_48_0_96_48.png")
    assert cut["bbox"] == [0, 40, 10, 8] and coco.annToMask(cut)[40:48, :10].all()
    (tmp_path / "isaid/train/images/P0001.png").rename(tmp_path / "isaid/train/images/P0002.png")
    with pytest.raises(DataError, match="1 images of the tiles"):
        convert_instances("isaid", tmp_path / "isaid", tmp_path / "x.json", split="train", tiles=tiles)


def test_label_maps_become_one_object_for_each_component(tmp_path):
    root = tmp_path / "loveda/Train/Rural"
    labels = np.ones((64, 64), np.uint8)  # background
    labels[5:15, 5:15], labels[30:40, 30:40], labels[50:52, 50:52] = 2, 2, 3
    for folder, picture in (("images_png", np.full((64, 64, 3), 80, np.uint8)), ("masks_png", labels)):
        (root / folder).mkdir(parents=True)
        cv2.imwrite(str(root / folder / "0.png"), picture)
    made = convert_instances("masks", tmp_path / "loveda", tmp_path / "out.json", min_area=9)
    coco = COCO(str(made.path))
    assert [a["area"] for a in coco.dataset["annotations"]] == [100, 100]
    assert {coco.cats[a["category_id"]]["name"] for a in coco.dataset["annotations"]} == {"building"}
    assert made.report.counts == {"components under 9 px": 1}
    with pytest.raises(ConfigError, match="split is 'val'"):
        convert_instances("masks", tmp_path / "loveda", tmp_path / "out.json", split="val")
    with pytest.raises(ConfigError, match="no tiles"):
        convert_instances("masks", tmp_path / "loveda", tmp_path / "out.json", tiles=tmp_path)
