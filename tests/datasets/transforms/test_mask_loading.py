import logging

import numpy as np
import pytest
from PIL import Image

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.transforms.segmentation import LoadSegmentationMask

PALETTE = [[255, 255, 255], [0, 0, 255], [255, 0, 0]]


def entry(path, **extra):
    settings = dict(palette=PALETTE, reduce_zero_label=False, label_map=None, seg_fields=[])
    return {**settings, "seg_map_path": str(path), **extra}


def save(path, values, mode=None):
    picture = Image.fromarray(np.asarray(values, np.uint8))
    (picture.convert(mode) if mode else picture).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_mask(tmp_path, mode):
    path = save(tmp_path / "mask.tif", [[PALETTE[2], PALETTE[0]], [PALETTE[1], PALETTE[1]]], mode)
    results = LoadSegmentationMask()(entry(path))
    assert results["gt_seg_map"].tolist() == [[2, 0], [1, 1]] and results["seg_fields"] == ["gt_seg_map"]


def test_index_mask_keeps_its_values(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 2, 255]])
    assert LoadSegmentationMask()(entry(path))["gt_seg_map"].tolist() == [[0, 2, 255]]


def test_palette_picture_reads_as_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    picture.putpalette([7] * 30)
    picture.save(tmp_path / "mask.png")
    assert LoadSegmentationMask()(entry(tmp_path / "mask.png"))["gt_seg_map"].tolist() == [[0, 1, 2]]


def test_reduced_zero_label(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 1, 3]])
    assert LoadSegmentationMask()(entry(path, reduce_zero_label=True))["gt_seg_map"].tolist() == [[255, 0, 2]]


def test_classes_left_out_are_ignored(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 1, 2]])
    label_map = {0: 255, 1: 0, 2: 1}
    assert LoadSegmentationMask()(entry(path, label_map=label_map))["gt_seg_map"].tolist() == [[255, 0, 1]]


def test_off_palette_colour_names_file_and_place(tmp_path):
    path = save(tmp_path / "mask.tif", [[PALETTE[0], [1, 2, 3]]])
    with pytest.raises(DataError, match=r"\(1, 2, 3\) at column 1, row 0") as caught:
        LoadSegmentationMask()(entry(path))
    assert caught.value.where == str(path)


def test_index_above_the_classes_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 3]])
    with pytest.raises(DataError, match=r"first: 3 at column 1, row 0; known are 0\.\.2"):
        LoadSegmentationMask()(entry(path))


def test_ignore_policy_counts_what_it_drops(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(
        "mmengine.logging.MMLogger.get_current_instance",
        lambda: logging.getLogger("masks"),
    )
    path = save(tmp_path / "mask.tif", [[PALETTE[0], [1, 2, 3], [3, 2, 1]]])
    with caplog.at_level(logging.WARNING, "masks"):
        results = LoadSegmentationMask(off_palette="ignore")(entry(path))
    assert results["gt_seg_map"].tolist() == [[0, 255, 255]]
    assert f"2 pixels of {path}" in caplog.text


def test_unknown_policy_names_the_known_ones():
    with pytest.raises(ConfigError, match="fail, ignore"):
        LoadSegmentationMask(off_palette="guess")


def test_mask_of_another_size_is_refused(tmp_path):
    path = save(tmp_path / "mask.png", [[0, 1]])
    with pytest.raises(DataError, match="mask is 2x1, its image 9x8"):
        LoadSegmentationMask()(entry(path, ori_shape=(8, 9)))


def test_missing_broken_and_sixteen_bit_masks(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        LoadSegmentationMask()(entry(tmp_path / "absent.png"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        LoadSegmentationMask()(entry(tmp_path / "broken.png"))
    Image.fromarray(np.array([[300]], np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="pixels of kind I;16"):
        LoadSegmentationMask()(entry(tmp_path / "deep.png"))
