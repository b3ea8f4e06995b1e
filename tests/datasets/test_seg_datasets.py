import numpy as np
import pytest
from locations import SAMPLES
from mmseg.datasets import PotsdamDataset
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.segmentation import ISPRSColourDataset, MaskDataset

PREFIX = dict(img_path="images", seg_map_path="masks")
PIPELINE = [dict(type="mmseg.LoadImageFromFile"), dict(type="rsfoundation.LoadSegmentationMask")]


def write(root, name, colour):
    for folder in PREFIX.values():
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(root / "images" / f"{name}.tif")
    Image.new("RGB", (6, 4), colour).save(root / "masks" / f"{name}.tif")


def build(root, kind=ISPRSColourDataset, **kwargs):
    return kind(data_root=str(root), data_prefix=PREFIX, pipeline=PIPELINE, **kwargs)


def test_masks_as_distributed_become_indices(tmp_path):
    write(tmp_path, "one", (255, 255, 0))
    assert np.unique(build(tmp_path)[0]["gt_seg_map"]).tolist() == [4]


def test_a_subset_of_classes_reads_the_same_colours(tmp_path):
    write(tmp_path, "one", (255, 255, 0))
    write(tmp_path, "two", (0, 255, 0))
    dataset = build(tmp_path, metainfo=dict(classes=("car", "building")))
    assert [np.unique(dataset[i]["gt_seg_map"]).tolist() for i in range(2)] == [[0], [255]]


def test_own_classes_need_no_new_type(tmp_path):
    write(tmp_path, "one", (7, 7, 7))
    own = dict(classes=("field", "dyke"), palette=[[1, 1, 1], [7, 7, 7]])
    dataset = build(tmp_path, MaskDataset, metainfo=own, img_suffix=".tif", seg_map_suffix=".tif")
    assert np.unique(dataset[0]["gt_seg_map"]).tolist() == [1]


def test_classes_and_colours_are_those_of_mmseg():
    assert dict(ISPRSColourDataset.METAINFO) == dict(PotsdamDataset.METAINFO)


def test_missing_folder_and_wrong_suffix_are_told_apart(tmp_path):
    with pytest.raises(DataError, match="cannot be listed"):
        build(tmp_path)
    write(tmp_path, "one", (0, 0, 0))
    with pytest.raises(DataError, match=r"no image ends in '\.png'"):
        build(tmp_path, img_suffix=".png")


@pytest.mark.skipif(not (SAMPLES / "torchgeo_fake" / "potsdam").is_dir(), reason="no samples here")
def test_mask_of_a_real_layout_decodes_or_says_where():
    mask = SAMPLES / "torchgeo_fake" / "potsdam" / "top_potsdam_5_15_label.tif"
    entry = dict(
        seg_map_path=str(mask),
        palette=ISPRSColourDataset.METAINFO["palette"],
        reduce_zero_label=False,
        seg_fields=[],
    )
    from rsfoundation.datasets.transforms.segmentation import LoadSegmentationMask

    colours = np.asarray(Image.open(mask).convert("RGB")).reshape(-1, 3)
    known = {tuple(colour) for colour in entry["palette"]}
    if {tuple(colour) for colour in np.unique(colours, axis=0).tolist()} <= known:
        assert LoadSegmentationMask()(entry)["gt_seg_map"].max() < 6
    else:
        with pytest.raises(DataError, match="carry no known label"):
            LoadSegmentationMask()(entry)
