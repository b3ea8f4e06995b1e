"""Labels of oriented data sets as DOTA text files and as COCO json: what is written reads back the same."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from rsfoundation.data.prepare.labels import KINDS, convert_labels
from rsfoundation.detection import CocoOrientedDataset, DOTADataset
from rsfoundation.errors import ConfigError, DataError
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
    report = convert(source, tmp_path / "out/train", "dota")
    assert (report.images, report.objects, report.difficult) == (3, 4, 1)
    kept = dict(min_side=0.0, ignore_difficulty=1)
    back = DOTADataset(data_root=str(tmp_path / "out"), split="train", **kept)
    assert entries(back) == entries(DOTADataset(data_root=str(source), split="train", **kept))
    assert back.left_out == {}, "the box without area and the crossed corners were dealt with"
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
    assert convert(source, tmp_path / "out", "coco", on_error="skip").objects == 2


def test_virtual_patches_are_refused(source, tmp_path):
    from rsfoundation.data.prepare.dota import cut_dota

    cut_dota([source / "train"], tmp_path / "patches/train", virtual=True)
    with pytest.raises(DataError, match="windows of larger ones"):
        convert_labels("dota", tmp_path / "patches", tmp_path / "out", splits=["train"], form="dota")


def test_a_second_run_replaces_the_first(source, tmp_path):
    convert(source, tmp_path / "out", "coco")
    convert(source, tmp_path / "out", "dota")
    assert not (tmp_path / "out/annotations.json").exists()
    assert json.loads((tmp_path / "out/manifest.json").read_text())["parameters"]["form"] == "dota"
