"""Labels that go to another format and back lose nothing to a hundredth of a pixel."""

import numpy as np
import pytest
from check_samples import SIDE, boxes, label_lines, save, texture

from rsfoundation.prepare.labels import convert_labels
from rsfoundation.registry import DATASETS

NAMES = ("ship", "small-vehicle", "Dry_Cargo_Ship")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for number in range(3):
        save(root / "train/images" / f"P{number}.png", texture(number)[: SIDE - 10 * number])
        label = root / "train/labelTxt" / f"P{number}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("".join(label_lines(boxes(number, count=3), name) for name in NAMES))
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def read(kind, root, **options):
    settings = dict(data_root=str(root), split="train", min_side=0.0, **options)
    return DATASETS.build(dict(type=f"rsfoundation.{kind}", **settings)).data_list


def same(one, other):
    assert one.names.tolist() == other.names.tolist() and one.class_names == other.class_names
    assert one.labels.tolist() == other.labels.tolist() and one.ends.tolist() == other.ends.tolist()
    assert np.abs(one.quads - other.quads).max() < 0.01


@pytest.mark.parametrize(("form", "kind", "options"), [
    ("yolo", "YOLOOBBDataset", dict(data_file="train/data.yaml")),
    ("fair1m", "FAIR1MDataset", dict(metainfo=dict(classes=NAMES))),
    ("dota", "DOTADataset", dict(metainfo=dict(classes=NAMES))),
])  # fmt: skip
def test_dota_to_another_format_and_back(source, tmp_path, form, kind, options):
    classes = dict(classes=source / "classes.txt")
    convert_labels("dota", source, tmp_path / "there/train", splits=["train"], form=form, **classes)
    first = read("DOTADataset", source, metainfo=dict(classes=NAMES))
    there = read(kind, tmp_path / "there", **options)
    same(first, there)
    back = {"yolo": "yolo", "fair1m": "fair1m", "dota": "dota"}[form]
    if form == "yolo":
        (tmp_path / "there/data.yaml").write_text((tmp_path / "there/train/data.yaml").read_text())
    convert_labels(
        back, tmp_path / "there", tmp_path / "back/train", splits=["train"], form="dota", **classes
    )
    same(first, read("DOTADataset", tmp_path / "back", metainfo=dict(classes=NAMES)))


def test_yolo_to_dota_to_yolo(source, tmp_path):
    classes = dict(classes=source / "classes.txt")
    convert_labels("dota", source, tmp_path / "a/train", splits=["train"], form="yolo", **classes)
    (tmp_path / "a/data.yaml").write_text((tmp_path / "a/train/data.yaml").read_text())
    convert_labels("yolo", tmp_path / "a", tmp_path / "b/train", splits=["train"], form="dota")
    convert_labels("dota", tmp_path / "b", tmp_path / "c/train", splits=["train"], form="yolo", **classes)
    for number in range(3):
        one, other = (np.loadtxt(tmp_path / place / f"train/labels/P{number}.txt") for place in "ac")
        assert np.abs(one - other).max() * SIDE < 0.01
