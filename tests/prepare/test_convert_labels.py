"""Labels of oriented data sets as DOTA text files and as COCO json: what is written reads back the same."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.datasets.oriented.sar_ships import CocoOrientedDataset
from rsfoundation.prepare.labels import KINDS, convert_labels
from rsfoundation.registry import DATASETS

HEADER = "imagesource:GoogleEarth\ngsd:0.2\n"
LABELS = {
    "P1": HEADER + "10 10 30 10 30 20 10 20 ship 0\n40 8 60 12 58 22 38 18 plane 1\n",
    "P2": "",
    "P3": (
        "10 10 30 20 30 10 10 20 ship 0\n"  # crossed
        "5 5 5 5 5 5 5 5 plane 0\n"  # without area
        "2 30 12 30 12 31.25 2 31.25 small-vehicle 0\n"
    ),
}


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "DOTA"
    for folder in ("images", "labelTxt"):
        (root / "train" / folder).mkdir(parents=True)
    for name, text in LABELS.items():
        cv2.imwrite(str(root / "train/images" / f"{name}.png"), np.full((48, 64, 3), 40, np.uint8))
        (root / "train/labelTxt" / f"{name}.txt").write_text(text)
    return root


def convert(source, out, form, **options):
    return convert_labels("dota", source, out, splits=["train"], form=form, **options)


def entries(data):
    return [(entry["img_id"], entry["instances"]) for entry in data.data_list]


def test_dota_files_read_back_the_same(source, tmp_path):
    made = convert(source, tmp_path / "out/train", "dota")
    assert (made.report.images, made.report.objects, made.difficult) == (3, 4, 1)
    kept = dict(min_side=0.0, ignore_difficulty=1)
    back = DOTADataset(data_root=str(tmp_path / "out"), split="train", **kept)
    assert entries(back) == entries(DOTADataset(data_root=str(source), split="train", **kept))
    assert back.report.counts == {}, "the box without area and the crossed corners were dealt with"
    assert (tmp_path / "out/train/labelTxt/P1.txt").read_text().splitlines()[1] == (
        "40 8 60 12 58 22 38 18 plane 1"
    )
    assert (tmp_path / "out/train/labelTxt/P2.txt").read_text() == ""
    assert (tmp_path / "out/train/classes.txt").read_text().splitlines() == list(back.metainfo["classes"])


def test_images_are_linked(source, tmp_path):
    convert(source, tmp_path / "out", "dota")
    images = sorted((tmp_path / "out/images").iterdir())
    assert [image.name for image in images] == ["P1.png", "P2.png", "P3.png"]
    assert all(image.is_symlink() and image.exists() for image in images)


def test_images_are_copied_where_links_are_refused(source, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    convert(source, tmp_path / "out", "dota")
    copy, original = tmp_path / "out/images/P1.png", source / "train/images/P1.png"
    assert not copy.is_symlink() and copy.read_bytes() == original.read_bytes()


def test_coco_reads_back_the_same(source, tmp_path):
    convert(source, tmp_path / "out", "coco")
    coco = COCO(str(tmp_path / "out/annotations.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["P1.png", "P2.png", "P3.png"]
    ship, plane, *_ = coco.loadAnns(coco.getAnnIds())
    assert ship["bbox"] == [10, 10, 20, 10] and ship["area"] == 200 and ship["iscrowd"] == 0
    assert ship["rbox"] == pytest.approx([20, 15, 20, 10, 0], abs=1e-5)
    assert plane["segmentation"] == [[40, 8, 60, 12, 58, 22, 38, 18]] and plane["difficult"] == 1
    assert coco.loadCats(plane["category_id"])[0]["name"] == "plane"
    names = tuple(category["name"] for category in coco.loadCats(coco.getCatIds()))
    back = CocoOrientedDataset(
        data_root=str(tmp_path / "out"),
        ann_file="annotations.json",
        image_dir="images",
        metainfo=dict(classes=names),
        min_side=0.0,
    )
    assert len(back) == 3 and len(back.data_list.labels) == 4
    labelled = DOTADataset(data_root=str(source), split="train", min_side=0.0).data_list
    assert back.data_list.labels.tolist() == labelled.labels.tolist()
    for ours, theirs in zip(back.data_list.quads, labelled.quads, strict=True):
        if np.allclose(theirs, ship["segmentation"][0]):
            assert sorted(ours.reshape(4, 2).tolist()) == pytest.approx(
                np.array(sorted(theirs.reshape(4, 2).tolist())), abs=1e-4
            )


def test_every_kind_is_a_data_set():
    assert all(DATASETS.get(name) is not None for name in KINDS.values())


def test_errors_name_the_cure(source, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'hrsc'"):
        convert_labels("hrcs", source, tmp_path / "out", splits=["train"], form="dota")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(DataError, match="not made by"):
        convert(source, tmp_path / "mine", "dota")
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"
    (source / "train/labelTxt/P1.txt").write_text("1 2 3 ship")
    with pytest.raises(DataError, match=r"P1\.txt:1"):
        convert(source, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()
    assert convert(source, tmp_path / "out", "coco", on_error="skip").report.objects == 2


def test_virtual_patches_are_refused(source, tmp_path):
    from rsfoundation.prepare.tiling import tile_dota

    tile_dota([source / "train"], tmp_path / "patches/train", virtual=True)
    with pytest.raises(DataError, match="windows of larger ones"):
        convert_labels("dota", tmp_path / "patches", tmp_path / "out", splits=["train"], form="dota")


def test_a_second_run_replaces_the_first(source, tmp_path):
    convert(source, tmp_path / "out", "coco")
    convert(source, tmp_path / "out", "dota")
    assert not (tmp_path / "out/annotations.json").exists()
    assert json.loads((tmp_path / "out/manifest.json").read_text())["parameters"]["form"] == "dota"


def test_difficulties_come_out_as_they_were_labelled(source, tmp_path):
    (source / "train/labelTxt/P1.txt").write_text(
        "".join(f"{x} 10 {x + 8} 10 {x + 8} 20 {x} 20 ship {level}\n" for level, x in enumerate((5, 20, 35)))
    )
    made = convert(source, tmp_path / "coco", "coco")
    assert (made.report.objects, made.difficult) == (5, 2)
    record = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert [item["difficult"] for item in record["annotations"] if item["image_id"] == 1] == [0, 1, 2]
    convert(source, tmp_path / "dota", "dota")
    written = (tmp_path / "dota/labelTxt/P1.txt").read_text().splitlines()
    assert [line.split()[-1] for line in written] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("version", "objects", "left_out"), [(None, 4, "helipad"), ("1.5", 5, "helipad"), ("2.0", 6, None)]
)
def test_versions_of_dota_have_their_classes(source, tmp_path, said, version, objects, left_out):
    text = LABELS["P1"] + "".join(
        f"{x} 25 {x + 9} 25 {x + 9} 40 {x} 40 {name} 0\n"
        for x, name in ((5, "container-crane"), (20, "helipad"))
    )
    (source / "train/labelTxt/P1.txt").write_text(text)
    assert convert(source, tmp_path / "out", "dota", version=version).report.objects == objects
    assert left_out is None or f"1 objects of class {left_out}" in said.text
    classes = (tmp_path / "out/classes.txt").read_text().splitlines()
    assert len(classes) == {None: 15, "1.5": 16, "2.0": 18}[version]


def test_a_version_takes_the_label_folder_that_names_it(source, tmp_path):
    (source / "train/labelTxt-v1.5").mkdir()
    for name in LABELS:
        (source / f"train/labelTxt-v1.5/{name}.txt").write_text("5 5 20 5 20 15 5 15 container-crane 0\n")
    assert convert(source, tmp_path / "out", "coco", version="1.5").report.objects == 3
    with pytest.raises(ConfigError, match="there are no versions of dior"):
        convert_labels("dior", source, tmp_path / "out", splits=["train"], form="dota", version="1.5")


@pytest.mark.parametrize("place", ["DOTA", "elsewhere"])
def test_classes_of_your_own(source, tmp_path, place):
    (source / "train/labelTxt/P1.txt").write_text("5 5 20 5 20 15 5 15 barge 0\n")
    with pytest.raises(DataError, match="unknown class 'barge'"):
        convert(source, tmp_path / "out", "coco")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "mine.txt").write_text("barge\nship\n")
    classes = Path("mine.txt") if place == "DOTA" else tmp_path / place / "mine.txt"
    made = convert(source, tmp_path / "out", "coco", classes=classes)
    record = json.loads((tmp_path / "out/annotations.json").read_text())
    assert [item["name"] for item in record["categories"]] == ["barge", "ship"]
    assert made.report.objects == len(record["annotations"]) == 2
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["parameters"]["classes"] == ["barge", "ship"]
    with pytest.raises(DataError, match="class list cannot be read"):
        convert(source, tmp_path / "other", "coco", classes=Path("missing.txt"))


def test_the_source_is_not_replaced_by_its_own_labels(source, tmp_path):
    convert(source, tmp_path / "again/train", "dota")
    with pytest.raises(DataError, match="holds files that it is made from"):
        convert(tmp_path / "again", tmp_path / "again/train", "coco")
    assert (tmp_path / "again/train/labelTxt/P1.txt").is_file()
