"""Data sets of scene recognition: layouts, splits, labels, and what is wrong with them."""

import json

import numpy as np
import pytest

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.classification import AID, RESISC45, BigEarthNet, EuroSAT, SceneDataset, UCMerced
from rsfoundation.io.images import write_rgb
from rsfoundation.registry import DATASETS


def make(folder, classes=("beach", "forest", "port"), count=10):
    for index, name in enumerate(classes):
        for number in range(count):
            image = np.full((8, 8, 3), 20 * index + number, np.uint8)
            write_rgb(folder / name / f"{name}_{number:02d}.png", image)
    return folder


def names(dataset):
    return [dataset.get_data_info(index)["img_path"].rsplit("/", 1)[-1] for index in range(len(dataset))]


def labels(dataset):
    return [dataset.get_data_info(index)["gt_label"] for index in range(len(dataset))]


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    dataset = SceneDataset(str(make(tmp_path)), pipeline=[])
    assert dataset.metainfo["classes"] == ("beach", "forest", "port")
    assert labels(dataset) == [[0]] * 10 + [[1]] * 10 + [[2]] * 10
    assert dataset.report.images == 30 and dataset.report.objects == 30 and not dataset.report


def test_classes_of_nested_folders_are_the_innermost(tmp_path):
    make(tmp_path / "water", ("lake",), 2)
    make(tmp_path / "land" / "fields", ("paddy field",), 3)
    dataset = DATASETS.build(dict(type="MillionAID", data_root=str(tmp_path), pipeline=[]))
    assert dataset.metainfo["classes"] == ("lake", "paddy field")
    assert sorted(labels(dataset)) == [[0]] * 2 + [[1]] * 3


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_splits_are_disjoint_complete_and_even_over_classes(tmp_path, ratio):
    root = str(make(tmp_path))
    train = SceneDataset(root, split="train", train_ratio=ratio, pipeline=[])
    val = SceneDataset(root, split="val", train_ratio=ratio, pipeline=[])
    assert not set(names(train)) & set(names(val)) and len(train) + len(val) == 30
    assert [labels(train).count([label]) for label in range(3)] == [round(10 * ratio)] * 3
    assert names(SceneDataset(root, split="train", train_ratio=ratio, pipeline=[])) == names(train)
    other = SceneDataset(root, split="train", train_ratio=ratio, split_seed=1, pipeline=[])
    assert names(other) != names(train)


def test_a_split_does_not_change_where_images_are_moved_to_another_folder(tmp_path):
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    options = dict(split="train", train_ratio=0.5, pipeline=[])
    assert names(SceneDataset(str(one), **options)) == names(SceneDataset(str(two), **options))
    # known names: a split must be the same on every computer and in every release
    assert names(SceneDataset(str(one), **options))[:5] == PINNED


PINNED = ["beach_00.png", "beach_04.png", "beach_05.png", "beach_06.png", "beach_09.png"]


@pytest.mark.parametrize(
    "line",
    [
        "{path} {name}",
        "{path}\t{name}",
        "{path},{name}",
        "{path} {label}",
        "{path} {name} {label}",
        "{path}",
    ],
)
def test_lists_name_classes_or_numbers(tmp_path, line):
    make(tmp_path)
    rows = [
        line.format(path=f"{name}/{name}_0{number}.png", name=name.upper(), label=label)
        for label, name in enumerate(("beach", "forest", "port"))
        for number in range(2)
    ]
    (tmp_path / "train.txt").write_text("\n".join(rows) + "\n\n")
    dataset = SceneDataset(
        str(tmp_path), ann_file="train.txt", metainfo=dict(classes=("beach", "forest", "port")), pipeline=[]
    )
    assert labels(dataset) == [[0], [0], [1], [1], [2], [2]]


def test_paths_with_blanks_and_several_labels(tmp_path):
    make(tmp_path, ("dry field",), 2)
    (tmp_path / "list.txt").write_text(
        "dry field/dry field_00.png\tfield|road\ndry field/dry field_01.png\troad\n"
    )
    dataset = SceneDataset(str(tmp_path), ann_file="list.txt", multi_label=True, pipeline=[])
    assert dataset.metainfo["classes"] == ("field", "road") and labels(dataset) == [[0, 1], [1]]
    with pytest.raises(DataError, match="2 classes of one image") as caught:
        SceneDataset(str(tmp_path), ann_file="list.txt", pipeline=[])
    assert str(caught.value.where).endswith("list.txt:1")


def test_numbers_without_names_are_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "list.txt").write_text("beach/beach_00.png 0\n")
    with pytest.raises(DataError, match="classes have no names"):
        SceneDataset(str(tmp_path), ann_file="list.txt", pipeline=[])


@pytest.mark.parametrize(("kind", "count"), [(UCMerced, 21), (AID, 30), (RESISC45, 45), (EuroSAT, 10)])
def test_public_class_lists(kind, count):
    classes = kind.METAINFO["classes"]
    assert len(set(classes)) == count and sorted(classes) == list(classes)


def test_spellings_of_published_folders_match(tmp_path):
    make(tmp_path, ("Baseball_Diamond", "airplane"), 1)
    dataset = UCMerced(str(tmp_path), pipeline=[])
    found = [UCMerced.METAINFO["classes"][label] for (label,) in labels(dataset)]
    assert found == ["baseballdiamond", "airplane"]
    assert any("agricultural" in warning for warning in dataset.report.warnings)


def bad_set(folder):
    make(folder, count=3)
    (folder / "empty").mkdir()
    make(folder, ("moon",), 2)
    rows = [f"{n}/{n}_0{i}.png {n}" for n in ("beach", "forest", "port", "moon") for i in range(2)]
    rows += ["beach/gone.png beach", "nowhere/1.png port"]
    (folder / "list.txt").write_text("\n".join(rows))
    return str(folder)


def test_everything_wrong_is_counted_and_named(tmp_path):
    root, classes = bad_set(tmp_path), dict(classes=("beach", "forest", "port"))
    folders = SceneDataset(root, metainfo=classes, on_error="skip", pipeline=[])
    assert folders.report.counts == {"class folders without images": 1, "labels outside the class list": 2}
    assert folders.report.files["class folders without images"] == ["empty"] and len(folders) == 9
    listed = SceneDataset(root, ann_file="list.txt", metainfo=classes, on_error="skip", pipeline=[])
    assert listed.report.counts == {
        "listed images that do not exist": 2,
        "labels outside the class list": 2,
    }
    assert len(listed) == 6
    with pytest.raises(DataError, match=r"does not exist: .*gone\.png") as caught:
        SceneDataset(root, ann_file="list.txt", metainfo=classes, pipeline=[])
    assert "list.txt:9" in str(caught.value.where) and "4 problems" in caught.value.what


def test_images_of_several_band_counts_are_counted(tmp_path):
    import rasterio

    for name, bands in (("a", 4), ("b", 4), ("c", 2), ("d", 4)):
        (tmp_path / "x").mkdir(exist_ok=True)
        profile = dict(driver="GTiff", width=8, height=8, count=bands, dtype="uint8")
        with rasterio.open(tmp_path / "x" / f"{name}.tif", "w", **profile) as made:
            made.write(np.zeros((bands, 8, 8), np.uint8))
    (tmp_path / "x" / "broken.tif").write_bytes(b"no raster")
    steps = [dict(type="rsfoundation.LoadImageFromFile", bands="all", pixel_range="native")]
    dataset = SceneDataset(str(tmp_path), on_error="skip", pipeline=steps)
    assert dataset.report.files == {
        "images of another number of bands": ["c.tif"],
        "unreadable images": ["broken.tif"],
    }
    assert len(dataset) == 3
    (tmp_path / "x" / "broken.tif").unlink()
    with pytest.raises(DataError, match="2 bands, and most images have 4"):
        SceneDataset(str(tmp_path), pipeline=steps)
    assert len(SceneDataset(str(tmp_path), pipeline=[])) == 4, "colours: every file gives three"


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match="data folder does not exist"):
        SceneDataset(str(tmp_path / "no"), pipeline=[])
    with pytest.raises(DataError, match="there are no images"):
        SceneDataset(str(tmp_path), metainfo=dict(classes=("a",)), pipeline=[])
    with pytest.raises(DataError, match="list does not exist"):
        SceneDataset(str(tmp_path), ann_file="no.txt", pipeline=[])
    with pytest.raises(DataError, match="train_ratio=None"):
        SceneDataset(str(tmp_path), split="train", pipeline=[])
    with pytest.raises(ConfigError):
        SceneDataset(str(tmp_path), split="trian", train_ratio=0.5, pipeline=[])


@pytest.fixture
def patches(tmp_path):
    """Two patches of BigEarthNet: bands of 10 and 20 m, labels of the nomenclature of 43."""
    import rasterio

    found = {
        "S2A_1": ["Sea and ocean", "Continuous urban fabric", "Discontinuous urban fabric"],
        "S2A_2": ["Airports", "Pastures"],
    }
    for number, (name, given) in enumerate(found.items()):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}_labels_metadata.json").write_text(json.dumps({"labels": given}))
        for band, side in (("B04", 12), ("B11", 6)):
            profile = dict(driver="GTiff", width=side, height=side, count=1, dtype="uint16")
            with rasterio.open(folder / f"{name}_{band}.tif", "w", **profile) as made:
                made.write(np.full((1, side, side), 1000 * (number + 1), np.uint16))
    return tmp_path


def test_big_earth_net_patches_load_with_the_joined_classes(patches):
    steps = [
        dict(type="rsfoundation.LoadBandFiles", bands=("B04", "B11"), pixel_range=(0, 2550)),
        dict(type="rsfoundation.PackSceneInputs"),
    ]
    dataset = BigEarthNet(data_root=str(patches), pipeline=steps)
    classes = dataset.metainfo["classes"]
    assert len(classes) == 19
    assert [[classes[label] for label in one] for one in labels(dataset)] == [
        ["Urban fabric", "Marine waters"],
        ["Pastures"],
    ]
    assert dataset.report.counts == {"labels outside the nomenclature of 19": 1}
    item = dataset[1]
    assert item["inputs"].shape == (2, 12, 12) and item["inputs"].unique().tolist() == [200]
    (patches / "train.csv").write_text("S2A_2\n")
    assert len(BigEarthNet(data_root=str(patches), ann_file="train.csv", pipeline=steps)) == 1
    (patches / "S2A_1" / "S2A_1_labels_metadata.json").write_text("{")
    with pytest.raises(DataError, match="labels of the patch cannot be read"):
        BigEarthNet(data_root=str(patches), pipeline=steps)
