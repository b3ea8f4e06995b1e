"""Masks and change labels are looked at before the first step: wrong numbers become errors with a fix."""

import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from PIL import Image
from raster_files import write_tiff

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets import label_check
from rsfoundation.datasets.change import BaseChangeDataset
from rsfoundation.datasets.segmentation import MaskDataset
from rsfoundation.evaluation.segmentation_metric import SegmentationMetric
from rsfoundation.registry import DATASETS

THREE = dict(classes=("ground", "roof", "water"), palette=[[10, 10, 10], [255, 0, 0], [0, 0, 255]])
TWO = dict(classes=("other", "roof"), palette=[[0, 0, 0], [255, 255, 255]])
MASKS = [dict(type="rsfoundation.LoadImageFromFile"), dict(type="rsfoundation.LoadSegmentationMask")]
PAIRS = [
    dict(type="rsfoundation.MultiImgLoadImageFromFile"),
    dict(type="rsfoundation.MultiImgLoadAnnotations"),
]
CHANGED = np.zeros((128, 128), np.uint8)
CHANGED[10:44, 20:54] = CHANGED[60:94, 50:84] = 1
TRUE_CHANGE = 2312


@pytest.fixture
def said(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def masks(tmp_path):
    """Return a function that writes a folder of masks with their images and builds the data set."""

    def make(*values, meta=THREE, pipeline=MASKS, **options):
        init_default_scope("mmseg")
        for index, mask in enumerate(values):
            mask = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
            for folder, picture in (("img", Image.new("RGB", mask.size)), ("mask", mask)):
                (tmp_path / folder).mkdir(exist_ok=True)
                picture.save(tmp_path / folder / f"{index:02}.png")
        prefix = dict(img_path="img", seg_map_path="mask")
        options = {"img_suffix": ".png", "seg_map_suffix": ".png", **options}
        return MaskDataset(
            data_root=str(tmp_path), data_prefix=prefix, metainfo=meta, pipeline=pipeline, **options
        )

    return make


@pytest.fixture
def pairs(tmp_path):
    """Return a function that writes pairs with labels and builds the data set of a preset."""

    def make(preset, *labels, suffix=".png", **options):
        init_default_scope("mmseg")
        for index, label in enumerate(labels):
            for folder in "AB":
                (tmp_path / folder).mkdir(exist_ok=True)
                Image.new("RGB", (128, 128)).save(tmp_path / folder / f"{index}.png")
            (tmp_path / "label").mkdir(exist_ok=True)
            file = tmp_path / "label" / f"{index}{suffix}"
            if suffix == ".tif":
                write_tiff(file, label)
            else:
                (label if isinstance(label, Image.Image) else Image.fromarray(label)).save(file)
        prefix = dict(img_path_from="A", img_path_to="B", seg_map_path="label")
        made = dict(
            type=f"rsfoundation.{preset}", data_root=str(tmp_path), data_prefix=prefix, img_suffix=".png",
            seg_map_suffix=suffix, pipeline=PAIRS, **options,
        )  # fmt: skip
        return DATASETS.build(made)

    return make


@pytest.mark.parametrize("test_mode", [False, True])
def test_masks_of_0_and_255_are_refused_with_the_setting_that_reads_them(masks, test_mode):
    files = [CHANGED * 255, CHANGED * 0, CHANGED.T.copy() * 255]
    with pytest.raises(
        DataError, match=r"'roof' occurs in none of 3 label maps.*'other' and the number 255"
    ) as caught:
        masks(*files, meta=TWO, test_mode=test_mode)
    assert "label_map={255: 1}" in caught.value.fix and caught.value.where.endswith("mask")
    data = masks(*files, meta=TWO, label_map={255: 1}, test_mode=test_mode)
    assert np.array_equal(data[0]["gt_seg_map"], CHANGED)
    assert (masks(*files, meta=TWO, on_error="skip")[0]["gt_seg_map"] == 255).sum() == TRUE_CHANGE


def test_the_map_that_is_all_other_scores_what_it_should(masks):
    """With 255 ignored the same map scored 1.000 in every metric and was kept as the best."""
    roofs = [np.zeros((128, 128), np.uint8) for _ in range(2)]
    for mask, count in zip(roofs, (2403, 2588), strict=True):
        mask.reshape(-1)[:count] = 255
    data = masks(*roofs, meta=TWO, label_map={255: 1}, test_mode=True)
    metric = SegmentationMetric()
    metric.dataset_meta = data.metainfo
    for index in range(2):
        truth = torch.from_numpy(data[index]["gt_seg_map"])[None]
        metric.process(None, [dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=truth * 0))])
    found = metric.evaluate(2)
    assert [round(found[key], 4) for key in ("mIoU", "mF1", "OA")] == [0.4238, 0.4588, 0.8477]


def test_ignored_pixels_next_to_all_classes_are_no_problem(masks):
    mask = CHANGED.copy()
    mask[:3] = 255
    data = masks(mask, meta=TWO)
    assert not data.report and not data.report.warnings and data.report.images == 1


def test_a_class_that_occurs_nowhere_is_named_in_training(masks, said):
    data = masks(CHANGED, CHANGED * 0)
    assert data.report.warnings == ["'water' in none of 2 label maps that were read"]
    assert "'water' in none of 2" in said.text and "2 images" in said.text
    assert not masks(CHANGED, test_mode=True).report.warnings


def test_labels_of_no_class_stop_before_the_first_step_with_counts(masks):
    with pytest.raises(DataError, match="first: 3 at column 20, row 10") as caught:
        masks(CHANGED, CHANGED * 3, CHANGED * 3 + CHANGED.T)
    assert "2 label maps that cannot be used (01.png, 02.png)" in caught.value.what
    with pytest.raises(DataError, match="no image is left"):
        masks(CHANGED * 3, CHANGED * 3, CHANGED * 3, on_error="skip")


def test_labels_that_count_from_one(masks):
    with pytest.raises(DataError) as caught:
        masks(CHANGED * 2 + 1, CHANGED)
    assert "reduce_zero_label=True" in caught.value.fix
    assert masks(CHANGED * 2 + 1, CHANGED, reduce_zero_label=True)[0]["gt_seg_map"].max() == 2


def test_off_palette_ignore_holds_in_the_check_too(masks):
    pipeline = [MASKS[0], dict(MASKS[1], off_palette="ignore")]
    assert (masks(CHANGED * 9, pipeline=pipeline)[0]["gt_seg_map"] == 255).sum() == TRUE_CHANGE


def test_broken_and_missing_files_are_left_out_under_skip(masks, tmp_path):
    masks(*[CHANGED + i % 2 for i in range(5)])
    (tmp_path / "mask/01.png").write_bytes(b"broken")
    (tmp_path / "mask/02.png").unlink()
    content = (tmp_path / "img/04.png").read_bytes()
    (tmp_path / "img/04.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="label map does not exist"):
        masks()
    data = masks(on_error="skip")
    assert len(data) == 2 and data.report.images == 2
    assert data.report.counts == {
        "missing label maps": 1, "label maps that cannot be used": 1, "unreadable images": 1
    }  # fmt: skip
    assert data.report.files["missing label maps"] == ["02.png"]


def test_a_large_data_set_is_read_in_parts(masks, monkeypatch, said):
    monkeypatch.setattr(label_check, "_PIXELS", 4 * CHANGED.size)
    data = masks(*[CHANGED] * 40)
    assert "'water' in none of 4 label maps" in data.report.warnings[0] and len(data) == 40
    with pytest.raises(DataError, match="first: 3"):  # the last one is among those read
        masks(*[CHANGED] * 39, CHANGED * 3)


def test_nothing_is_read_that_the_pipeline_does_not_read(masks, tmp_path):
    masks(CHANGED)
    (tmp_path / "mask/00.png").unlink()
    assert len(masks(pipeline=MASKS[:1])) == 1


def test_the_first_image_is_opened_before_the_first_step(tmp_path):
    write_tiff(tmp_path / "img/0.tif", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(DataError, match="float32 from 0 to 0; expected 8 or 16 bit, or a value range"):
        MaskDataset(
            data_root=str(tmp_path), data_prefix=dict(img_path="img"), img_suffix=".tif", metainfo=TWO,
            pipeline=MASKS[:1],
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["MaskDataset", "LEVIR_CD_Dataset"])
def test_an_unknown_policy_is_refused(kind):
    with pytest.raises(ConfigError, match="no on_error 'guess'"):
        DATASETS.build(dict(type=f"rsfoundation.{kind}", on_error="guess"))


def indexed(values):
    picture = Image.fromarray(values)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    return picture


def two_colours():
    made = np.zeros((128, 128, 3), np.uint8)
    made[10:44, 20:54], made[60:94, 50:84] = (0, 0, 255), (255, 0, 0)
    return made


WAYS = {
    "0 and 255": (CHANGED * 255, ".png"),
    "0 and 1": (CHANGED, ".png"),
    "two colours": (two_colours(), ".png"),
    "palette": (indexed(CHANGED), ".png"),
    "float": (CHANGED.astype(np.float32), ".tif"),
    "TIFF": (CHANGED * 255, ".tif"),
}


@pytest.mark.parametrize(
    "preset", ["LEVIR_CD_Dataset", "S2Looking_Dataset", "CLCD_Dataset", "JL1_CD_Dataset"]
)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_change_is_read_under_binary_presets(pairs, preset, way):
    label, suffix = WAYS[way]
    read = pairs(preset, label, suffix=suffix)[0]["gt_seg_map"]
    assert np.bincount(read.reshape(-1)).tolist() == [CHANGED.size - TRUE_CHANGE, TRUE_CHANGE]


@pytest.mark.parametrize("preset", ["DSIFN_Dataset", "RSIPAC_CD_Dataset"])
@pytest.mark.parametrize("way", WAYS)
def test_presets_of_indices_read_them_or_name_the_setting(pairs, preset, way):
    label, suffix = WAYS[way]
    if way in ("0 and 1", "palette", "float"):
        assert np.array_equal(pairs(preset, label, suffix=suffix)[0]["gt_seg_map"], CHANGED)
        return
    with pytest.raises(DataError) as caught:
        pairs(preset, label, suffix=suffix)
    assert "format_seg_map='to_binary'" in caught.value.fix and "label" in caught.value.where
    found = "(0, 0, 255)" if way == "two colours" else "255"
    assert found in caught.value.what
    fixed = pairs(preset, label, suffix=suffix, format_seg_map="to_binary")
    assert np.array_equal(fixed[0]["gt_seg_map"], CHANGED)


def test_0_and_255_is_known_from_all_labels_and_not_from_the_first(pairs):
    with pytest.raises(DataError, match="'changed' occurs in none of 3 label maps"):
        pairs("DSIFN_Dataset", CHANGED * 0, CHANGED * 255, CHANGED * 0)
    ignored = CHANGED.copy()
    ignored[:3] = 255
    data = pairs("DSIFN_Dataset", CHANGED * 0, ignored, CHANGED * 255)
    assert (data[1]["gt_seg_map"] == 255).sum() == 3 * 128 and not data.report


def test_no_change_at_all_is_a_warning(pairs):
    data = pairs("LEVIR_CD_Dataset", CHANGED * 0, CHANGED * 0)
    assert data.report.warnings == ["'changed' in none of 2 label maps that were read"]


def test_other_values_of_change_stop_before_the_first_step(pairs):
    with pytest.raises(DataError, match="holds 0, 2; expected 0 and 1, 0 and 255") as caught:
        pairs("LEVIR_CD_Dataset", CHANGED, CHANGED * 2)
    assert caught.value.where.endswith("1.png") and "format_seg_map=None" in caught.value.fix
    data = pairs("LEVIR_CD_Dataset", CHANGED, CHANGED * 2, format_seg_map=None, label_map={2: 1})
    assert np.array_equal(data[1]["gt_seg_map"], CHANGED)


def test_several_classes_of_change(pairs):
    meta = dict(classes=("same", "new", "gone"), palette=[[0, 0, 0], [0, 0, 255], [255, 0, 0]])
    init_default_scope("mmseg")

    class Three(BaseChangeDataset):
        METAINFO = meta

    DATASETS.register_module(module=Three, name="Three", force=True)
    for label in (two_colours(), CHANGED + CHANGED.T * 0):
        data = pairs("Three", label)
        assert data[0]["gt_seg_map"].max() <= 2 and (data[0]["gt_seg_map"] > 0).sum() == TRUE_CHANGE
