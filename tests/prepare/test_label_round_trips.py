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


TOOLS = {"coco": "coco", "voc": "voc", "label-studio": "label-studio", "cvat": "cvat", "gpkg": "vector"}


def convert(kind, root, out, form, **options):
    return convert_labels(kind, root, out / "train", splits=["train"], form=form, **options)


def same_shapes(one, other):
    """Compare as :func:`same`, whatever corner comes first and whichever way round."""
    assert one.names.tolist() == other.names.tolist() and one.ends.tolist() == other.ends.tolist()
    labels = [[table.class_names[label] for label in table.labels] for table in (one, other)]
    assert labels[0] == labels[1] and one.difficulties.tolist() == other.difficulties.tolist()
    first, second = (table.quads.reshape(-1, 4, 2) for table in (one, other))
    distance = np.linalg.norm(first[:, :, None] - second[:, None], axis=-1)
    assert distance.min(axis=2).max() < 0.01 and distance.min(axis=1).max() < 0.01


@pytest.mark.parametrize(("form", "kind"), TOOLS.items())
def test_dota_to_a_labelling_tool_and_back(source, tmp_path, form, kind):
    classes = dict(classes=source / "classes.txt")
    convert("dota", source, tmp_path / "there", form, **classes)
    first = read("DOTADataset", source, metainfo=dict(classes=NAMES))
    there = read("LabelToolDataset", tmp_path / "there", form=kind)
    assert sorted(NAMES) == list(there.class_names)
    same_shapes(first, there)
    if kind not in ("voc", "vector"):  # the same corner is the first one
        assert np.abs(first.quads - there.quads).max() < 0.01
    convert(kind, tmp_path / "there", tmp_path / "back", "dota", **classes)
    same_shapes(first, read("DOTADataset", tmp_path / "back", metainfo=dict(classes=NAMES)))
    again = convert(kind, tmp_path / "there", tmp_path / "again", form)
    assert not again.report
    same_shapes(there, read("LabelToolDataset", tmp_path / "again", form=kind))


@pytest.mark.parametrize("form", ["label-studio", "cvat", "coco"])
def test_shapes_that_are_no_rectangles_keep_their_corners(tmp_path, form):
    root = tmp_path / "source"
    save(root / "train/images/a.png", texture(1))
    (root / "train/labelTxt").mkdir()
    (root / "train/labelTxt/a.txt").write_text("10 10 40 14 38 40 6 30 ship 2\n")
    convert("dota", root, tmp_path / "there", form)
    there = read("LabelToolDataset", tmp_path / "there", form=form)
    assert np.abs(there.quads - [[10, 10, 40, 14, 38, 40, 6, 30]]).max() < 0.01
    assert there.difficulties.tolist() == [0 if form == "label-studio" else 2]


@pytest.mark.parametrize("form", ["gpkg", "geojson"])
def test_vectors_over_rasters_of_any_crs(tmp_path, form):
    """A rotated, sheared grid in UTM at 12 cm: coordinates in the file are on the ground, to 0.01 px."""
    import geopandas
    import rasterio

    root = tmp_path / "source"
    transform = rasterio.Affine(0.12, 0.03, 500000, 0.02, -0.12, 5000000)
    for number in range(2):
        file = root / "train/images" / f"P{number}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        meta = dict(driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", crs="EPSG:32633")
        shifted = transform @ rasterio.Affine.translation(SIDE * number, 0)
        with rasterio.open(file, "w", transform=shifted, **meta) as raster:
            raster.write(texture(number).transpose(2, 0, 1))
        label = root / "train/labelTxt" / f"P{number}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(label_lines(boxes(number, count=5)) if number else "")
    convert("dota", root, tmp_path / "there", form)
    first = read("DOTADataset", root)
    same_shapes(first, read("LabelToolDataset", tmp_path / "there", form="vector"))
    convert("vector", tmp_path / "there", tmp_path / "back", "dota")
    same_shapes(first, read("DOTADataset", tmp_path / "back"))
    file = tmp_path / f"there/train/labels/P1.{form}"
    table = geopandas.read_file(file).to_crs("EPSG:32633")
    corners = table.geometry.get_coordinates().to_numpy()
    points = first.quads.reshape(-1, 2) + 0.5
    x, y = transform @ (points[:, 0] + SIDE, points[:, 1])
    nearest = np.linalg.norm(corners[None] - np.stack([x, y], 1)[:, None], axis=-1).min(axis=1)
    assert nearest.max() < 0.001, "corners on the ground: half a pixel from the pixel centres"
    # one file for all rasters, its classes in another column
    for old in (tmp_path / "there/train/labels").iterdir():
        old.unlink()
    table.rename(columns={"class": "kind"}).to_file(tmp_path / "there/train/all.gpkg")
    one = read("LabelToolDataset", tmp_path / "there", form="vector", class_column="kind")
    same_shapes(first, one)


def test_yolo_to_dota_to_yolo(source, tmp_path):
    classes = dict(classes=source / "classes.txt")
    convert_labels("dota", source, tmp_path / "a/train", splits=["train"], form="yolo", **classes)
    (tmp_path / "a/data.yaml").write_text((tmp_path / "a/train/data.yaml").read_text())
    convert_labels("yolo", tmp_path / "a", tmp_path / "b/train", splits=["train"], form="dota")
    convert_labels("dota", tmp_path / "b", tmp_path / "c/train", splits=["train"], form="yolo", **classes)
    for number in range(3):
        one, other = (np.loadtxt(tmp_path / place / f"train/labels/P{number}.txt") for place in "ac")
        assert np.abs(one - other).max() * SIDE < 0.01
