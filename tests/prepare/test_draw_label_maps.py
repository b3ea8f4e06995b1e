"""Polygons become label maps: centres of pixels, small objects on top, no data ignored, wrong input named."""

import json

import cv2
import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import read_manifest
from rsfoundation.prepare import polygons
from rsfoundation.prepare.check.items import read_splits
from rsfoundation.prepare.polygons import draw_label_maps

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def coco(tmp_path):
    """One image: a field with a car on it, and a crowd."""
    root = tmp_path / "coco"
    root.mkdir()
    cv2.imwrite(str(root / "a.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))

    def one(number, category, x, y, w, h, crowd=0):
        ring = [x, y, x + w, y, x + w, y + h, x, y + h]
        return dict(
            id=number, image_id=1, category_id=category, bbox=[x, y, w, h], area=w * h, iscrowd=crowd,
            segmentation=dict(size=[HEIGHT, WIDTH], counts=[0, HEIGHT * 2, HEIGHT * 58]) if crowd else [ring],
        )  # fmt: skip

    content = dict(
        images=[dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)],
        annotations=[one(1, 2, 10, 10, 6, 4), one(2, 1, 5, 5, 30, 20), one(3, 1, 0, 0, 2, HEIGHT, crowd=1)],
        categories=[dict(id=1, name="field"), dict(id=2, name="car")],
    )
    (root / "instances_train.json").write_text(json.dumps(content))
    return root


def write_scene(path, nodata_rows=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((3, HEIGHT, WIDTH), 90, np.uint8)
    pixels[:, :nodata_rows] = 0
    transform = rasterio.transform.from_origin(500_000, 5_000_000, 2, 2)
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=3, dtype="uint8", nodata=0,
        crs="EPSG:32633", transform=transform,
    ) as file:  # fmt: skip
        file.write(pixels)


def ground(x1, y1, x2, y2):
    """Return a rectangle in pixel edges on the ground."""
    return shapely.box(500_000 + 2 * x1, 5_000_000 - 2 * y2, 500_000 + 2 * x2, 5_000_000 - 2 * y1)


def write_labels(path, shapes, names, crs="EPSG:32633"):
    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame({"class": names}, geometry=shapes, crs="EPSG:32633").to_crs(crs).to_file(path)


@pytest.fixture
def scenes(tmp_path):
    root = tmp_path / "scenes"
    write_scene(root / "train/images/s1.tif", nodata_rows=3)
    shapes = [ground(10, 10, 16, 14), ground(5, 5, 35.4, 25.6), ground(200, 200, 210, 210)]
    write_labels(root / "train/labels/s1.gpkg", shapes, ["car", "field", "car"])
    return root


def numbers(file):
    from PIL import Image

    return np.asarray(Image.open(file))


def test_coco(coco, tmp_path):
    made = draw_label_maps("coco", coco, tmp_path / "out")
    labels = numbers(tmp_path / "out/ann_dir/train/a.png")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, :2] = 255
    expected[5:25, 5:35] = 1
    expected[10:14, 10:16] = 2  # the car is on the field although it comes first
    assert np.array_equal(labels, expected) and made.tiles == {"train": 1}
    content = read_manifest(tmp_path / "out").content
    assert content["classes"] == ["background", "field", "car"] and content["palette"][0] == [0, 0, 0]
    assert (tmp_path / "out/img_dir/train/a.png").resolve() == (coco / "a.png").resolve()


def test_vectors_by_the_centres_of_pixels(scenes, tmp_path):
    made = draw_label_maps("vector", scenes, tmp_path / "out", splits=["train"])
    labels = numbers(tmp_path / "out/ann_dir/train/s1.png")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[5:26, 5:35] = 2  # 25.6 holds the centre of row 25, 35.4 not that of column 35
    expected[10:14, 10:16] = 1
    expected[:3] = 255
    assert np.array_equal(labels, expected)
    assert made.report.counts == {"objects beyond their image": 1} and made.report.objects == 3
    assert read_manifest(tmp_path / "out").content["classes"] == ["background", "car", "field"]


def test_the_result_is_a_data_set(scenes, tmp_path):
    draw_label_maps("vector", scenes, tmp_path / "out", splits=["train"])
    (split,) = read_splits(tmp_path / "out")
    assert split.classes == ("background", "car", "field") and len(split.items) == 1
    labels, _ = split.label_map(split.items[0])
    assert np.unique(labels).tolist() == [0, 1, 2, 255]


def test_maps_are_drawn_by_rows(scenes, tmp_path, monkeypatch):
    draw_label_maps("vector", scenes, tmp_path / "whole", splits=["train"])
    taken = []
    real = polygons._Rows.__getitem__

    def rows(self, place):
        taken.append(place)
        return real(self, place)

    monkeypatch.setattr(polygons._Rows, "__getitem__", rows)
    monkeypatch.setattr("rsfoundation.io.png.row_blocks.__defaults__", (7,))
    draw_label_maps("vector", scenes, tmp_path / "out", splits=["train"])
    assert len(taken) == 6
    files = [tmp_path / name / "ann_dir/train/s1.png" for name in ("whole", "out")]
    assert np.array_equal(*map(numbers, files))


def test_one_file_for_all_images_in_another_crs(tmp_path):
    root = tmp_path / "all"
    write_scene(root / "images/s1.tif")
    write_labels(root / "labels.geojson", [ground(10, 10, 20, 20)], ["tank"], "EPSG:4326")
    made = draw_label_maps("vector", root, tmp_path / "out", splits=["."])
    labels = numbers(tmp_path / "out/ann_dir/all/s1.png")
    assert made.tiles == {"all": 1} and (labels[10:20, 10:20] == 1).all() and (labels == 1).sum() == 100


def test_without_a_background_and_with_own_classes(scenes, tmp_path):
    (tmp_path / "classes.txt").write_text("field #00ff00\ncar #ff0000\n")
    options = dict(splits=["train"], classes=tmp_path / "classes.txt", background=False)
    draw_label_maps("vector", scenes, tmp_path / "out", **options)
    labels = numbers(tmp_path / "out/ann_dir/train/s1.png")
    assert np.unique(labels).tolist() == [0, 1, 255] and labels[10, 10] == 1 and labels[30, 50] == 255
    content = read_manifest(tmp_path / "out").content
    assert content["classes"] == ["field", "car"] and content["palette"] == [[0, 255, 0], [255, 0, 0]]


def test_wrong_input_is_named_and_nothing_is_left(scenes, coco, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "classes.txt").write_text("field\ncars\n")
    with pytest.raises(DataError, match=r"class 'car' is not in the list.*cars") as caught:
        draw_label_maps("vector", scenes, out, splits=["train"], classes=tmp_path / "classes.txt")
    assert "s1.gpkg" in str(caught.value.where)
    with pytest.raises(ConfigError, match="no split is named"):
        draw_label_maps("vector", scenes, out)
    with pytest.raises(ConfigError, match="no split 'val'") as caught:
        draw_label_maps("coco", coco, out, splits=["val"])
    assert "train" in caught.value.fix
    with pytest.raises(DataError, match=r"there is no folder .*coca"):
        draw_label_maps("coco", coco.with_name("coca"), out)
    (scenes / "train/labels/s1.gpkg").write_bytes(b"no vectors")
    with pytest.raises(DataError, match="cannot be read") as caught:
        draw_label_maps("vector", scenes, out, splits=["train"])
    assert "s1.gpkg" in str(caught.value.where)
    with pytest.raises(DataError, match="no image is left"):
        draw_label_maps("vector", scenes, out, splits=["train"], on_error="skip")
    assert not out.exists() and not list(tmp_path.glob(".out*/ann_dir"))


def test_a_foreign_folder_is_left_alone(scenes, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(DataError):
        draw_label_maps("vector", scenes, tmp_path / "out", splits=["train"])
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_the_verb(scenes, tmp_path):
    words = ["prepare", "masks", "vector", str(scenes), "--split", "train", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "objects beyond their image" in result.output
    assert (tmp_path / "out/manifest.json").is_file()
