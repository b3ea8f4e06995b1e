import numpy as np
import pytest
from cd_samples import write_pair
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.transforms.pair_loading import (
    MultiImgLoadAnnotations,
    MultiImgLoadImageFromFile,
    MultiImgLoadInferencerLoader,
    MultiImgMultiAnnLoadAnnotations,
)


def entry(root, name="one", **extra):
    return dict(
        img_path=[str(root / "A" / f"{name}.png"), str(root / "B" / f"{name}.png")],
        seg_map_path=str(root / "label" / f"{name}.png"),
        reduce_zero_label=False,
        format_seg_map="to_binary",
        label_map=None,
        seg_fields=[],
        **extra,
    )


def test_both_dates_are_read_in_order(tmp_path):
    before, after, _ = write_pair(tmp_path, "one")
    results = MultiImgLoadImageFromFile()(entry(tmp_path))
    np.testing.assert_array_equal(results["img"][0], before)
    np.testing.assert_array_equal(results["img"][1], after)
    assert results["img_shape"] == results["ori_shape"] == (40, 50)


def test_missing_partner_names_the_file(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "B" / "one.png").unlink()
    with pytest.raises(DataError, match=r"B/one\.png"):
        MultiImgLoadImageFromFile()(entry(tmp_path))


def test_broken_image_names_the_file(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "A" / "one.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"A/one\.png"):
        MultiImgLoadImageFromFile()(entry(tmp_path))


def test_dates_of_different_size_are_refused(tmp_path):
    write_pair(tmp_path, "one")
    Image.new("RGB", (30, 20)).save(tmp_path / "B" / "one.png")
    with pytest.raises(DataError, match="50x40 and 30x20"):
        MultiImgLoadImageFromFile()(entry(tmp_path))


def test_ignore_empty_drops_the_pair(tmp_path):
    write_pair(tmp_path, "one")
    (tmp_path / "B" / "one.png").unlink()
    assert MultiImgLoadImageFromFile(ignore_empty=True)(entry(tmp_path)) is None


def test_label_is_cut_at_half_grey(tmp_path):
    write_pair(tmp_path, "one", size=(1, 4))
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "label" / "one.png")
    results = MultiImgLoadAnnotations()(entry(tmp_path))
    assert results["gt_seg_map"].tolist() == [[0, 0, 1, 1]]
    assert results["seg_fields"] == ["gt_seg_map"]


def test_coloured_label_is_read_as_grey(tmp_path):
    write_pair(tmp_path, "one", size=(1, 2))
    Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)).save(tmp_path / "label" / "one.png")
    assert MultiImgLoadAnnotations()(entry(tmp_path))["gt_seg_map"].tolist() == [[0, 1]]


def test_zero_label_is_reduced_before_the_label_map(tmp_path):
    write_pair(tmp_path, "one", size=(1, 4))
    Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).save(tmp_path / "label" / "one.png")
    settings = {
        **entry(tmp_path),
        "reduce_zero_label": True,
        "format_seg_map": None,
        "label_map": {0: 1, 1: 0},
    }
    assert MultiImgLoadAnnotations()(settings)["gt_seg_map"].tolist() == [[255, 1, 0, 255]]


def test_label_of_another_size_is_refused(tmp_path):
    write_pair(tmp_path, "one")
    Image.new("L", (10, 10)).save(tmp_path / "label" / "one.png")
    results = MultiImgLoadImageFromFile()(entry(tmp_path))
    with pytest.raises(DataError, match="label is 10x10, its images are 50x40"):
        MultiImgLoadAnnotations()(results)


def test_missing_label_names_the_file(tmp_path):
    write_pair(tmp_path, "one", label=False)
    with pytest.raises(DataError, match=r"label/one\.png"):
        MultiImgLoadAnnotations()(entry(tmp_path))


def test_semantic_labels_use_their_own_map(tmp_path):
    write_pair(tmp_path, "one", size=(1, 2))
    for date in ("from", "to"):
        (tmp_path / date).mkdir()
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / date / "one.png")
    paths = {f"seg_map_path_{date}": str(tmp_path / date / "one.png") for date in ("from", "to")}
    results = MultiImgMultiAnnLoadAnnotations(reduce_semantic_zero_label=True)(
        entry(tmp_path, **paths, semantic_label_map={0: 3})
    )
    assert results["gt_seg_map_from"].tolist() == results["gt_seg_map_to"].tolist() == [[255, 3]]
    assert results["seg_fields"] == ["gt_seg_map", "gt_seg_map_from", "gt_seg_map_to"]


@pytest.mark.parametrize("wrap", [lambda pair: pair, lambda pair: {"img": pair}])
def test_inferencer_takes_arrays(wrap):
    pair = [np.zeros((4, 5, 3), np.uint8), np.ones((4, 5, 3), np.uint8)]
    results = MultiImgLoadInferencerLoader()(wrap(pair))
    assert [image.max() for image in results["img"]] == [0, 1]
    assert results["img_path"] is None and results["ori_shape"] == (4, 5)


def test_inferencer_takes_paths(tmp_path):
    before, _, _ = write_pair(tmp_path, "one")
    results = MultiImgLoadInferencerLoader()(entry(tmp_path)["img_path"])
    np.testing.assert_array_equal(results["img"][0], before)
