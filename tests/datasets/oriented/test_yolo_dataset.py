"""Data sets in the layout of YOLO-OBB: two layouts, class names, broken files, conversion to DOTA text."""

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.datasets.oriented.yolo import YOLOOBBDataset
from rsfoundation.prepare.labels import convert_labels

ROW = "1 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75\n"


@pytest.fixture
def yolo(tmp_path, draw, write):
    def make(images="images/train", labels="labels/train"):
        for name in "ab":
            draw(tmp_path / images / f"{name}.jpg")
        write(tmp_path / labels / "a.txt", ROW)
        write(tmp_path / "data.yaml", "path: .\nnames: {0: plane, 1: large ship}\n")
        return tmp_path

    return make


def read(root, **options):
    return YOLOOBBDataset(data_root=str(root), **options)


@pytest.mark.parametrize("folders", [("images/train", "labels/train"), ("train/images", "train/labels")])
def test_both_layouts_with_images_without_labels(yolo, folders):
    data = read(yolo(*folders))
    assert data.metainfo["classes"] == ("plane", "large ship")
    first, second = data.data_list
    assert first["instances"] == [
        {"bbox": [16, 24, 32, 24, 32, 36, 16, 36], "bbox_label": 1, "ignore_flag": 0}
    ]
    assert (first["width"], first["height"]) == (64, 48)
    assert second["instances"] == [] and not data.report


def test_classes_of_the_config_are_numbered(yolo, write):
    root = yolo()
    write(root / "other.yml", "names: [a]")
    with pytest.raises(DataError, match=r"there are 2: data\.yaml, other\.yml"):
        read(root)
    assert read(root, data_file="data.yaml").get_cat_ids(0) == [1]
    assert read(root, metainfo=dict(classes=("x", "y"))).metainfo["classes"] == ("x", "y")
    for name in ("data.yaml", "other.yml"):
        (root / name).unlink()
    with pytest.raises(DataError, match="there is none"):
        read(root)


def test_broken_files_by_policy(yolo, write, draw):
    root = yolo()
    write(root / "labels/train/a.txt", ROW + "1 0.5 0.5 0.1 0.1\n")
    write(root / "labels/train/c.txt", ROW)
    draw(root / "images/train/d.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"found 5 fields .*the first of 2 problems"):
        read(root)
    data = read(root, on_error="skip")
    assert len(data) == 2
    assert data.report.counts == {
        "malformed label lines": 1,
        "unreadable images": 1,
        "label files without an image": 1,
    }


def test_missing_folders(yolo):
    root = yolo()
    with pytest.raises(DataError, match="no images of the split 'val'"):
        read(root, split="val")
    (root / "labels/train/a.txt").unlink()
    (root / "labels/train").rmdir()
    with pytest.raises(DataError, match="no label folder"):
        read(root)
    assert len(read(root, test_mode=True)) == 2


def test_conversion_to_dota_reads_back_the_same(yolo, tmp_path):
    root = yolo()
    made = convert_labels("yolo", root, tmp_path / "out/train", splits=["train"], form="dota")
    assert (made.report.images, made.report.objects) == (2, 1)
    back = DOTADataset(
        data_root=str(tmp_path / "out"), metainfo=dict(classes=str(tmp_path / "out/train/classes.txt"))
    )
    assert back.metainfo["classes"] == ("plane", "large_ship")
    assert [entry["instances"] for entry in back.data_list] == [
        entry["instances"] for entry in read(root).data_list
    ]
