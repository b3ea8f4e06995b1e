"""The rules for odd labels that all data sets share, and the report of what they hit."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmrotate.registry import TASK_UTILS
from mmrotate.structures.bbox import QuadriBoxes, RotatedBoxes

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.dota import DOTADataset

SHIP = "10 10 30 10 30 20 10 20 ship 0"
ODD = {
    "flat": "10 10 20 10 30 10 40 10 ship 0",
    "point": "5 5 5 5 5 5 5 5 ship 0",
    "narrow": "5 5 20 5 20 6.9 5 6.9 ship 0",
    "bow tie": "10 10 30 20 30 10 10 20 ship 0",
    "left of it": "-30 5 -10 5 -10 15 -30 15 ship 0",
    "far": "1e9 5 1.1e9 5 1.1e9 15 1e9 15 ship 0",
    "over the edge": "-10 -10 20 -10 20 20 -10 20 ship 0",
}


@pytest.fixture
def dota(tmp_path, draw, write):
    def make(labels, split="train", folder="labelTxt"):
        for name, text in labels.items():
            draw(tmp_path / split / f"images/{name}.png")
            if text is not None:
                write(tmp_path / split / folder / f"{name}.txt", text)
        return tmp_path

    return make


def read(root, **kwargs):
    return DOTADataset(data_root=str(root), **kwargs)


def boxes(data, row=0):
    return [item["bbox"] for item in data.get_data_info(row)["instances"]]


@pytest.mark.parametrize(
    ("kind", "rule", "kept"),
    [
        ("flat", "boxes under 2 px", 0),
        ("point", "boxes under 2 px", 0),
        ("narrow", "boxes under 2 px", 0),
        ("bow tie", "boxes with crossed corners (put in order)", 1),
        ("left of it", "boxes beyond the image", 0),
        ("far", "boxes beyond the image", 0),
        ("over the edge", None, 1),
    ],
)
def test_odd_boxes(dota, kind, rule, kept):
    data = read(dota({"a": f"{SHIP}\n{ODD[kind]}\n", "b": SHIP}))
    assert len(boxes(data)) == 1 + kept
    assert data.report.counts == ({rule: 1} if rule else {})
    assert data.report.files == ({rule: ["a.txt"]} if rule else {})


def test_a_bow_tie_comes_out_as_its_rectangle(dota):
    data = read(dota({"a": ODD["bow tie"]}))
    assert boxes(data) == [[10, 10, 30, 10, 30, 20, 10, 20]]


def test_small_boxes_may_be_kept_or_ignored_but_not_flat_ones(dota):
    root = dota({"a": "\n".join([SHIP, ODD["narrow"], ODD["flat"], ODD["point"]])})
    data = read(root, min_side=0)
    assert len(boxes(data)) == 2 and data.report.counts == {"boxes without area": 2}
    data = read(root, small="ignore")
    assert [item["ignore_flag"] for item in data.get_data_info(0)["instances"]] == [0, 1]
    assert data.report.counts == {"boxes without area": 2}


def test_the_report_names_files_and_counts(dota, caplog):
    root = dota(dict.fromkeys("abcde", f"{SHIP}\n{ODD['flat']}\n{ODD['point']}"))
    MMLogger.get_current_instance().addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        data = read(root)
    MMLogger.get_current_instance().removeHandler(caplog.handler)
    assert "10 boxes under 2 px (a.txt, b.txt, c.txt and 2 more files)" in caplog.text
    assert data.report.files["boxes under 2 px"] == [f"{name}.txt" for name in "abcde"]


def test_nothing_that_passes_encodes_to_nan(dota):
    """What the rules let through gives finite targets against ordinary anchors."""
    rows = [*ODD.values(), "0 0 3 0 3 2.1 0 2.1 ship 0", "0 0 63 47 62 48 -1 1 ship 0"]
    data = read(dota({"a": "\n".join(rows)}))
    truth = QuadriBoxes(torch.tensor(boxes(data))).convert_to("rbox").tensor
    assert len(truth) == 3 and (truth[:, 2:4] >= 2 - 1e-4).all()
    anchors = RotatedBoxes(torch.tensor([[32.0, 24, 32, 16, 0]]).repeat(len(truth), 1))
    coder = TASK_UTILS.build({"type": "DeltaXYWHTRBBoxCoder", "angle_version": "le90"})
    assert torch.isfinite(coder.encode(anchors, RotatedBoxes(truth))).all()


@pytest.mark.parametrize(
    ("version", "other", "remark"),
    [
        ("1.0", "container-crane", "labels of DOTA 1.5 are read with the classes of 1.0"),
        ("1.5", "helipad", "labels of DOTA 2.0 are read with the classes of 1.5"),
        ("1.5", None, "no object of a class that DOTA 1.5 brought: are the labels older?"),
        ("2.0", "container-crane", "no object of a class that DOTA 2.0 brought: are the labels older?"),
    ],
)
def test_labels_of_another_version_are_remarked_on(dota, version, other, remark):
    rows = [SHIP, *([f"1 1 9 1 9 9 1 9 {other} 0"] if other else [])]
    data = read(dota({"a": "\n".join(rows)}), version=version)
    assert remark in data.report.warnings


@pytest.mark.parametrize("wrong", [dict(on_error="ignore"), dict(small="ignored")])
def test_rules_that_do_not_exist_are_refused(dota, wrong):
    (option,) = wrong
    with pytest.raises(ConfigError, match=option) as caught:
        read(dota({"a": SHIP}), **wrong)
    assert caught.value.fix.startswith("one of ")


def test_labels_of_their_own_version_are_not(dota):
    root = dota({"a": f"{SHIP}\n1 1 9 1 9 9 1 9 container-crane 0"})
    assert [remark[:12] for remark in read(root, version="1.5").report.warnings] == ["no object of"]


@pytest.mark.parametrize(
    "folder",
    ["labelTxt-v1.5", "labelTxt-v1.5/DOTA-v1.5_train", "labelTxt-v1.5/labelTxt", "annotations/version1.5"],
)
def test_the_folder_that_names_the_version_is_taken(dota, folder):
    root = dota({"a": SHIP}, folder=folder)
    dota({"a": f"{SHIP}\n{SHIP}"})
    assert len(boxes(read(root, version="1.5"))) == 1
    assert len(boxes(read(root, version="1.0"))) == 2


def test_classes_that_never_occur_are_told_in_training_only(dota):
    root = dota({"a": SHIP})
    own = {"classes": ("ship", "barge")}
    assert read(root, metainfo=own).report.warnings == ["no object of 1 classes: barge"]
    assert read(root, metainfo=own, test_mode=True).report.warnings == []


@pytest.mark.parametrize("text", ["barge\nship\n", "barge, ship", "barge ship\n", "\ufeffbarge\r\nship\r\n"])
def test_classes_from_a_list(dota, tmp_path, text):
    root = dota({"a": SHIP})
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    data = read(root, metainfo={"classes": "classes.txt"})
    assert data.metainfo["classes"] == ("barge", "ship") and data.get_cat_ids(0) == [1]
    assert read(root, metainfo={"classes": str(tmp_path / "classes.txt")}).get_cat_ids(0) == [1]


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), ("ship\nship", "names 'ship' twice")])
def test_class_lists_that_make_no_sense(dota, tmp_path, text, problem):
    root = dota({"a": SHIP})
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=problem):
        read(root, metainfo={"classes": "classes.txt"})
    with pytest.raises(DataError, match="class list cannot be read"):
        read(root, metainfo={"classes": "absent.txt"})


def test_upright_classes_become_labels(dota):
    root = dota({"a": SHIP})
    data = read(root, upright_classes=["storage-tank", "roundabout"])
    assert data.get_data_info(0)["upright_labels"] == [9, 11]
    assert read(root, upright_classes=["roundabout"], metainfo={"classes": ("ship",)}).upright_labels == []
    with pytest.raises(ConfigError, match="did you mean 'storage-tank'"):
        read(root, upright_classes=["storage_tank"])


def test_several_splits_as_one_and_equal_names(dota):
    root = dota({"a": SHIP})
    dota({"b": SHIP}, split="val")
    assert [entry["img_id"] for entry in read(root, split=["train", "val"]).data_list] == ["a", "b"]
    dota({"a": SHIP}, split="val")
    with pytest.raises(DataError, match="two images are called a"):
        read(root, split=["train", "val"])
    data = read(root, split=["train", "val"], on_error="skip")
    assert len(data) == 2 and data.report.counts == {"images with the name of an earlier one": 1}


def test_subsets_and_indices(dota):
    root = dota({"a": SHIP, "b": "", "c": f"{SHIP}\n{SHIP}"})
    assert [entry["img_id"] for entry in read(root, indices=2).data_list] == ["a", "b"]
    data = read(root)
    part = data.get_subset([2, 0])
    assert [(entry["img_id"], len(entry["instances"])) for entry in part.data_list] == [("c", 2), ("a", 1)]
    assert data.get_data_info(-1)["sample_idx"] == 2
    assert [len(entry["instances"]) for entry in data.data_list[1:]] == [0, 2]
    with pytest.raises(IndexError):
        data.get_data_info(3)


def test_samples_of_mmrotate(samples):
    """Version 0 has an empty label file whose image is not there, and boxes beyond its small image."""
    data = read(samples, split="dota_mmrotate_v0")
    assert data.report.files["label files without an image"] == ["P0004__1__0___1024.txt"]
    assert data.report.counts["boxes beyond the image"] == 3
    assert len(data) == 1 and data.get_cat_ids(0) == [0]
    data = read(samples, split="dota_mmrotate")
    assert len(boxes(data)) == 4 and not data.report
    assert "P2805__1024__0___0 is 170 x 170, not 1024 x 1024" in data.report.warnings[-1]


def test_images_that_were_resized_after_labelling_are_told(dota, draw):
    root = dota({"P1__64__0___0": SHIP, "P2__64__0___0": SHIP})
    remarks = read(root).report.warnings
    assert (
        "2 of 2 images opened have another size than stated: P1__64__0___0 is 64 x 48, not 64 x 64" in remarks
    )
    for name in ("P1", "P2"):
        draw(root / f"train/images/{name}__64__0___0.png", 64, 64)
    assert not any("size" in remark for remark in read(root).report.warnings)
