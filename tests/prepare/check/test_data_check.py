"""Each planted fault is found and named, and sound data has none."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from check_samples import (
    SIDE,
    boxes,
    label_lines,
    make_dota,
    make_pairs,
    make_potsdam,
    save,
    texture,
)

from rsfoundation.cli.app import main
from rsfoundation.core.errors import DataError
from rsfoundation.prepare.check.html import write_html
from rsfoundation.prepare.check.run import BETWEEN, check_data


def problems(check, split=None):
    """Return counts by kind of one report, or of all."""
    reports = [check.reports[split]] if split else check.reports.values()
    return {kind: count for report in reports for kind, count in report.counts.items()}


def example(check, kind):
    return next(report.examples[kind][0] for report in check.reports.values() if kind in report.examples)


@pytest.fixture
def dota(tmp_path):
    return make_dota(tmp_path / "dota")


@pytest.fixture
def pairs(tmp_path):
    return make_pairs(tmp_path / "pairs")


def test_sound_boxes(dota):
    check = check_data(dota)
    assert problems(check) == {} and check.errors == check.warnings == 0
    train, val = check.splits
    assert (len(train.data.items), len(val.data.items)) == (6, 3) and train.boxes.convention == "le90"
    assert train.boxes.classes == {"ship": 48} and train.boxes.per_image == (8, 8, 8)
    pixels = np.concatenate([texture(seed).reshape(-1, 3) for seed in range(6)])
    assert np.allclose([band.mean for band in train.bands], pixels.mean(0))
    assert np.allclose([band.std for band in train.bands], pixels.std(0))


def test_a_duplicate_across_splits(dota):
    save(dota / "val/images/other.png", texture(2))
    (dota / "val/labelTxt/other.txt").write_text(label_lines(boxes(2)))
    check = check_data(dota)
    assert problems(check, BETWEEN) == {"images that are in two splits": 1} and check.errors == 1
    where = example(check, "images that are in two splits").where
    assert "train2.png (train)" in where and "other.png (val)" in where


def test_a_near_copy_across_splits(dota):
    (dota / "val/images/val0.png").unlink()
    cv2.imwrite(str(dota / "val/images/val0.jpg"), texture(3)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])
    assert problems(check_data(dota), BETWEEN) == {"near copies of images in two splits": 1}


def test_the_same_ground_at_another_offset(tmp_path):
    scene = texture(7, 256)
    for split, x in (("train", 0), ("val", 96)):
        save(tmp_path / split / "images" / f"{split}.png", scene[:160, x : x + 160])
        save(tmp_path / split / "images" / f"{split}_else.png", texture(len(split), 160))
        (tmp_path / split / "labelTxt").mkdir()
        for name in (split, f"{split}_else"):
            (tmp_path / split / "labelTxt" / f"{name}.txt").write_text(label_lines(boxes(1)))
    check = check_data(tmp_path)
    assert problems(check, BETWEEN) == {"images in two splits that show the same ground": 1}
    assert (
        "64 x 160 px, at an offset of 96, 0 px"
        in example(check, "images in two splits that show the same ground").what
    )


@pytest.mark.parametrize(("shift", "found"), [(80, 1), (96, 0)])
def test_overlapping_extents(tmp_path, shift, found):
    rasterio = pytest.importorskip("rasterio")
    for split, x, seed in (("train", 0, 1), ("val", shift, 2)):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labelTxt").mkdir()
        (tmp_path / split / "labelTxt" / f"{split}.txt").write_text(label_lines(boxes(1)))
        profile = dict(driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", crs="EPSG:32633")
        transform = rasterio.Affine(1, 0, 500_000 + x, 0, -1, 5_200_000)
        with rasterio.open(
            tmp_path / split / "images" / f"{split}.tif", "w", transform=transform, **profile
        ) as file:
            file.write(texture(seed).transpose(2, 0, 1))
    check = check_data(tmp_path)
    assert problems(check, BETWEEN) == ({"images in two splits whose extents overlap": 1} if found else {})
    assert check.errors == found


def test_windows_of_one_scene(dota):
    windows = (("train", "P7__96__0___0"), ("val", "P7__96__48___0"), ("val", "P7__96__500___0"))
    for seed, (split, name) in enumerate(windows, start=50):
        save(dota / split / "images" / f"{name}.png", texture(seed))
        (dota / split / "labelTxt" / f"{name}.txt").write_text(label_lines(boxes(5)))
    check = check_data(dota)
    assert problems(check, BETWEEN) == {"windows in two splits that overlap in one scene": 1}
    assert (
        example(check, "windows in two splits that overlap in one scene").what
        == "48 x 96 px in common of scene P7"
    )
    (dota / "val/images/P7__96__48___0.png").unlink()
    (dota / "val/labelTxt/P7__96__48___0.txt").unlink()
    assert problems(check_data(dota), BETWEEN) == {"windows of one scene in two splits": 1}


def test_a_truncated_png_and_missing_labels(dota):
    broken = dota / "train/images/train3.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    (dota / "val/labelTxt/val1.txt").unlink()
    check = check_data(dota)
    assert problems(check) == {"unreadable images": 1, "images without a label file": 1} and check.errors == 2
    assert example(check, "unreadable images").where.endswith("train3.png")


def test_a_box_without_area_and_one_far_outside(dota):
    label = dota / "train/labelTxt/train4.txt"
    label.write_text(
        label.read_text() + "10 10 30 10 30 10 10 10 ship 0\n900 900 920 900 920 910 900 910 ship 0\n"
    )
    check = check_data(dota)
    assert problems(check) == {"boxes without area": 1, "boxes beyond the image": 1}
    assert example(check, "boxes without area").where.endswith("train4.txt:9")
    assert check.errors == 0 and check.warnings == 2


def test_a_le135_file_among_le90_ones(dota):
    (dota / "train/labelTxt/train5.txt").write_text(label_lines(boxes(5, "le135")))
    check = check_data(dota)
    kind = "label files in another angle convention"
    assert problems(check) == {kind: 1} and example(check, kind).where.endswith("train5.txt")
    assert example(check, kind).what == "8 boxes fit le135; those of 5 of 6 files fit le90"


def test_corners_in_labelling_order_are_of_no_convention(tmp_path):
    root = make_dota(tmp_path / "dota")
    for file in root.rglob("*.txt"):
        quads = np.roll(boxes(3).reshape(-1, 4, 2), 1, axis=1)
        quads[::2] = np.roll(quads[::2], 1, axis=1)
        file.write_text(label_lines(quads.reshape(-1, 8)))
    check = check_data(root)
    assert check.splits[0].boxes.convention == "none" and problems(check) == {}


def test_sound_pairs(pairs):
    check = check_data(pairs)
    assert problems(check) == {} and check.warnings == 0
    assert check.splits[0].pixels == {"unchanged": 16 * (SIDE**2 - 256), "changed": 16 * 256}


def test_a_shifted_pair(pairs):
    second = pairs / "train/B/train_5.png"
    image = cv2.imread(str(second))
    moved = cv2.warpAffine(
        image, np.float32([[1, 0, 4], [0, 1, 3]]), (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT
    )
    cv2.imwrite(str(second), moved)
    check = check_data(pairs)
    kind = "pairs whose dates are shifted against each other"
    assert problems(check) == {kind: 1} and example(check, kind).where.endswith("B/train_5.png")
    x, y = map(float, re.findall(r"(-?[\d.]+) px", example(check, kind).what))
    assert abs(x - 4) < 0.7 and abs(y - 3) < 0.7


@pytest.mark.parametrize("split", ["train", "val"])
def test_swapped_dates(pairs, split):
    first, second = (pairs / split / folder / f"{split}_2.png" for folder in "AB")
    first.rename(first.with_suffix(".moved"))
    second.rename(first)
    first.with_suffix(".moved").rename(second)
    check = check_data(pairs)
    assert problems(check) == {"pairs whose dates look swapped": 1}
    assert example(check, "pairs whose dates look swapped").where == str(first)


def test_the_same_date_twice_and_another_size(pairs):
    shutil.copy(pairs / "train/A/train_1.png", pairs / "train/B/train_1.png")
    save(pairs / "train/B/train_2.png", texture(2, 64))
    found = problems(check_data(pairs))
    assert found["pairs with the same image twice"] == 1 and found["pairs of different size"] == 1


def test_a_wrong_palette(tmp_path):
    root = make_potsdam(tmp_path)
    assert problems(check_data(root)) == {}
    file = root / "5_Labels_all/top_potsdam_2_3_label.tif"
    right = cv2.imread(str(file))[..., ::-1]
    save(file, np.where((right == (0, 0, 255)).all(-1, keepdims=True), (10, 20, 30), right).astype(np.uint8))
    check = check_data(root)
    kind = "label maps that cannot be used"
    assert problems(check) == {kind: 1} and "(10, 20, 30)" in example(check, kind).what
    save(file, right[..., ::-1])  # a valid palette with other meanings: red and blue exchanged
    kind = "label maps whose red and blue look exchanged"
    check = check_data(root)
    assert problems(check) == {kind: 1} and example(check, kind).where == str(file)


def test_a_label_map_of_another_size_and_a_class_that_training_lacks(tmp_path):
    for split, top in (("train", 1), ("val", 2)):
        for number in range(3):
            labels = np.kron(np.arange(9).reshape(3, 3) % (top + 1), np.ones((32, 32), int)).astype(np.uint8)
            save(tmp_path / "img_dir" / split / f"{split}{number}.png", texture(number + 10 * top))
            save(
                tmp_path / "ann_dir" / split / f"{split}{number}.png",
                labels[: 96 - 32 * (number == 2 and top == 1)],
            )
    check = check_data(tmp_path)
    assert problems(check) == {"label maps of another size than their image": 1}


def test_a_constant_band_and_an_image_of_one_value(dota):
    flat = texture(1)
    flat[..., 1] = 7
    save(dota / "train/images/train1.png", flat)
    save(dota / "train/images/train2.png", np.full((SIDE, SIDE, 3), 9, np.uint8))
    found = problems(check_data(dota))
    assert found == {"images with a band of one value": 1, "images of one value": 1}


def test_a_repeated_image_and_repeated_boxes(dota):
    shutil.copy(dota / "train/images/train0.png", dota / "train/images/twin.png")
    (dota / "train/labelTxt/twin.txt").write_text(label_lines([*boxes(9), boxes(9)[0]]))
    found = problems(check_data(dota))
    assert found == {"images that are in a split more than once": 1, "boxes that are labelled twice": 1}


def test_outputs_and_exit_status(dota, tmp_path, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as stop:
            main(["check", str(dota), *words])
        return stop.value.code

    assert run("--strict") == 0
    label = dota / "train/labelTxt/train4.txt"
    label.write_text(label.read_text() + "10 10 30 10 30 10 10 10 ship 0\n")
    assert run() == 0 and run("--strict") == 1
    save(dota / "val/images/val2.png", texture(2))
    files = (tmp_path / "out/check.html", tmp_path / "out/check.json")
    assert run("--html", str(files[0]), "--json", str(files[1])) == 1
    assert "1 errors, 1 warnings" in capsys.readouterr().out.replace("\n", " ")
    content = json.loads(files[1].read_text())
    assert content["errors"] == 1 and content["twins"]["images that are in two splits"][0]["splits"] == [
        "train",
        "val",
    ]
    page = files[0].read_text()
    assert (
        page.count("data:image/jpeg;base64") >= 3 and "boxes without area" in page and "train4.txt:9" in page
    )


def test_a_folder_of_no_known_layout(tmp_path):
    with pytest.raises(DataError, match="no known layout"):
        check_data(tmp_path)


def test_html_of_pairs(pairs, tmp_path):
    shutil.copy(pairs / "train/A/train_1.png", pairs / "train/B/train_1.png")
    write_html(check_data(pairs), tmp_path / "page.html")
    page = Path(tmp_path / "page.html").read_text()
    assert "pairs with the same image twice" in page and page.count("<figure>") == 1


def test_patches_of_masks_are_not_taken_for_masks_of_another_size(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder, shape in (("images", (96, 80, 3)), ("masks", (96, 80))):
            (tmp_path / split / folder).mkdir(parents=True)
            values = rng.integers(0, 255 if folder == "images" else 2, shape).astype(np.uint8)
            cv2.imwrite(str(tmp_path / split / folder / "a.png"), values)
    dataset = (
        "dict(type='rsfoundation.MaskDataset', data_root={root!r}, patch=64, img_suffix='.png', "
        "metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [9, 9, 9]]), "
        "data_prefix=dict(img_path='{split}/images', seg_map_path='{split}/masks'), test_mode={test}, "
        "pipeline=[dict(type='rsfoundation.LoadImageFromFile'), "
        "dict(type='rsfoundation.LoadSegmentationMask')])"
    )
    lines = ["default_scope = 'mmseg'", "task = dict(type='rsfoundation.SemanticSegmentation')"]
    for split in ("train", "val"):
        text = dataset.format(root=str(tmp_path), split=split, test=split == "val")
        lines.append(f"{split}_dataloader = dict(dataset={text})")
    (tmp_path / "config.py").write_text("\n".join(lines) + "\n")
    check = check_data(str(tmp_path / "config.py"))
    assert check.errors == 0 and check.splits
