from pathlib import Path

import numpy as np
import pytest
from cd_samples import write_pair
from locations import SAMPLES
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.change import BaseChangeDataset, LEVIR_CD_Dataset
from rsfoundation.registry import DATASETS

PREFIX = dict(img_path_from="A", img_path_to="B", seg_map_path="label")


def build(root, **kwargs):
    return LEVIR_CD_Dataset(data_root=str(root), data_prefix=PREFIX, **kwargs)


def test_pairs_are_listed_by_name(tmp_path):
    for name in ("two", "one"):
        write_pair(tmp_path, name)
    dataset = build(tmp_path)
    assert [Path(dataset[i]["img_path"][1]).name for i in range(2)] == ["one.png", "two.png"]
    assert dataset[0]["format_seg_map"] == "to_binary"
    assert dataset.metainfo["classes"] == ("unchanged", "changed")


def test_subfolders_are_part_of_the_name(tmp_path):
    write_pair(tmp_path, "one")
    for folder in "AB":
        (tmp_path / folder / "sub").mkdir()
        (tmp_path / folder / "one.png").rename(tmp_path / folder / "sub" / "one.png")
    assert build(tmp_path)[0]["seg_map_path"] == str(tmp_path / "label" / "sub" / "one.png")


@pytest.mark.parametrize("folder", ["A", "B"])
def test_missing_partner_is_named(tmp_path, folder):
    write_pair(tmp_path, "one")
    write_pair(tmp_path, "two")
    (tmp_path / folder / "two.png").unlink()
    with pytest.raises(DataError, match=r"1 images have no partner.*two\.png"):
        build(tmp_path)


def test_missing_folder_and_wrong_suffix_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        build(tmp_path)
    write_pair(tmp_path, "one")
    with pytest.raises(DataError, match=r"no file ends in '\.tif'"):
        build(tmp_path, img_suffix=".tif")


def test_list_file_chooses_pairs(tmp_path):
    for name in ("one", "two"):
        write_pair(tmp_path, name)
    (tmp_path / "train.txt").write_text("two\n\n")
    dataset = build(tmp_path, ann_file="train.txt")
    assert len(dataset) == 1 and dataset[0]["img_path"][0].endswith("two.png")
    with pytest.raises(DataError, match=r"list of pairs"):
        build(tmp_path, ann_file="absent.txt")


def test_names_with_extension(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "list.txt").write_text("one.png")
    kind = DATASETS.get("WHU_CD_Dataset")
    dataset = kind(data_root=str(tmp_path), data_prefix=PREFIX, ann_file="list.txt")
    assert dataset[0]["img_path"][0].endswith("A/one.png")


def test_no_label_folder_means_no_label(tmp_path):
    write_pair(tmp_path, "one", label=False)
    dataset = LEVIR_CD_Dataset(data_root=str(tmp_path), data_prefix=dict(img_path_from="A", img_path_to="B"))
    assert "seg_map_path" not in dataset[0]


def test_unknown_label_format_is_refused():
    with pytest.raises(DataError, match="to_binary"):
        BaseChangeDataset(format_seg_map="binary")


@pytest.mark.skipif(not (SAMPLES / "levir_cd_bitcd").is_dir(), reason="no real samples here")
def test_real_pairs_load():
    pipeline = [
        dict(type="rsfoundation.MultiImgLoadImageFromFile"),
        dict(type="rsfoundation.MultiImgLoadAnnotations"),
        dict(type="rsfoundation.MultiImgPackSegInputs"),
    ]
    root = SAMPLES / "levir_cd_bitcd"
    dataset = build(root, pipeline=pipeline)
    assert len(dataset) == 4
    for index in range(4):
        packed = dataset[index]
        label = packed["data_samples"].gt_sem_seg.data[0].numpy()
        file = np.asarray(Image.open(packed["data_samples"].seg_map_path).convert("L"))
        assert packed["inputs"].shape == (6, 256, 256)
        np.testing.assert_array_equal(label, file >= 128)
