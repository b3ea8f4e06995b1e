"""Sets on disk: real layouts, equal files whatever the workers, and safe against interruption."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from rsfoundation.core.errors import DataError
from rsfoundation.io.dota import read_dota_txt
from rsfoundation.prepare.toy.geometry import polygon_mask
from rsfoundation.prepare.toy.make import CATEGORIES, LAND_CLASSES, TASKS, make_toy_scenes
from rsfoundation.prepare.toy.scene import Scene

SMALL = dict(size=128, counts={"train": 3, "val": 1}, large_size=(200, 160), seed=5)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_toy_scenes(tmp_path_factory.mktemp("toy"), **SMALL, workers=1)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_detection_has_the_layout_of_dota(report):
    folder = report.folders["detection"] / "train"
    assert names(folder / "images") == ["P0001.png", "P0002.png", "P0003.png"]
    assert names(folder / "labelTxt") == ["P0001.txt", "P0002.txt", "P0003.txt"]
    lines = (folder / "labelTxt" / "P0001.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["imagesource", "gsd"]
    scene = Scene((5, "train", 1), 128, 128)
    objects = read_dota_txt(folder / "labelTxt" / "P0001.txt").objects
    assert [item.name for item in objects] == [thing.kind for thing in scene.objects[0]]
    for item, thing in zip(objects, scene.objects[0], strict=True):
        assert np.array(item.quad) == pytest.approx(thing.box.quad().ravel(), abs=0.006)
    counted = sum(len(read_dota_txt(path).objects) for path in (folder / "labelTxt").iterdir())
    assert sum(report.objects["detection"]["train"].values()) == counted


def test_segmentation_has_the_layout_of_mmsegs_converters(report):
    folder = report.folders["segmentation"]
    index = cv2.imread(str(folder / "ann_dir/val/P0001.png"), cv2.IMREAD_UNCHANGED)
    assert index.shape == (128, 128)
    assert 1 <= index.min() <= index.max() <= 6
    colours = read(folder / "label_dir/val/P0001.png")
    palette = np.array([land.colour for land in LAND_CLASSES])
    assert np.array_equal(colours, palette[index - 1])
    assert (folder / "img_dir/large/P0001.png").is_file()


def test_instances_load_with_coco_and_match_the_shapes(report):
    coco = COCO(str(report.folders["instance"] / "annotations/instances_train.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CATEGORIES)
    assert len(coco.getImgIds()) == 3
    for image_id in coco.getImgIds():
        scene = Scene((5, "train", image_id), 128, 128)
        shapes = [(thing.kind, thing.outline()) for thing in scene.objects[0]]
        shapes += [("building", building.outline) for building in scene.buildings]
        masks = [polygon_mask(outline, 128, 128) for _, outline in shapes]
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(annotation).astype(bool)
            overlaps = [(mask & other).sum() / (mask | other).sum() for other in masks]
            best = int(np.argmax(overlaps))
            assert overlaps[best] > 0.85
            assert shapes[best][0] == CATEGORIES[annotation["category_id"] - 1]
            assert annotation["area"] == pytest.approx(masks[best].sum(), rel=0.1, abs=4)
            left, top, width, height = annotation["bbox"]
            assert left >= 0 and top >= 0 and left + width <= 128 and top + height <= 128


def test_change_has_the_layout_of_levir_cd(report):
    folder = report.folders["change"] / "train"
    for letter in ("A", "B", "label"):
        assert names(folder / letter) == ["train_1.png", "train_2.png", "train_3.png"]
    for number in (1, 2, 3):
        label = cv2.imread(str(folder / f"label/train_{number}.png"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(label == 255, Scene((5, "train", number), 128, 128).change_mask())
        assert set(np.unique(label)) <= {0, 255}


def test_all_tasks_show_the_same_scene(report):
    first = read(report.folders["detection"] / "val/images/P0001.png")
    for path in ("segmentation/img_dir/val/P0001.png", "instance/val/P0001.png", "change/val/A/val_1.png"):
        assert np.array_equal(first, read(report.root / path))


def test_files_do_not_depend_on_workers_tasks_or_number(report, tmp_path):
    again = make_toy_scenes(tmp_path / "again", **SMALL, workers=4)
    assert digests(again.root) == digests(report.root)
    more = make_toy_scenes(
        tmp_path / "more", **SMALL | {"counts": {"val": 2, "train": 1}}, tasks=("detection",)
    )
    one, other = (folder.root / "detection/val/images/P0001.png" for folder in (report, more))
    assert one.read_bytes() == other.read_bytes()


def test_a_complete_set_is_used_again(report):
    before = {path: path.stat().st_mtime_ns for path in report.root.rglob("*.png")}
    again = make_toy_scenes(report.root, **SMALL)
    assert again.reused == TASKS
    assert again.objects == report.objects
    assert before == {path: path.stat().st_mtime_ns for path in report.root.rglob("*.png")}


def test_a_task_is_added_beside_the_others(tmp_path):
    make_toy_scenes(tmp_path, **SMALL, tasks=("detection",))
    added = make_toy_scenes(tmp_path, **SMALL, tasks=("detection", "segmentation"))
    assert added.reused == ("detection",)
    assert (tmp_path / "segmentation/img_dir/val/P0001.png").is_file()


def test_other_parameters_replace_the_set(tmp_path):
    make_toy_scenes(tmp_path, **SMALL, tasks=("detection",))
    make_toy_scenes(tmp_path, **SMALL | {"counts": {"val": 1}}, large=0, tasks=("detection",))
    assert names(tmp_path / "detection") == ["manifest.json", "val"]


def test_a_foreign_folder_is_never_touched(tmp_path):
    precious = tmp_path / "detection" / "train" / "images" / "P0001.png"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    with pytest.raises(DataError, match="was not made by"):
        make_toy_scenes(tmp_path, **SMALL, tasks=("detection", "segmentation"))
    (tmp_path / "detection" / "manifest.json").write_text(json.dumps({"maker": "somebody"}))
    with pytest.raises(DataError, match="was not made by"):
        make_toy_scenes(tmp_path, **SMALL, tasks=("detection",))
    assert precious.read_text() == "mine"
    assert not (tmp_path / "segmentation").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tasks": ("detecton",)}, "did you mean 'detection'"),
        ({"size": 8}, "size is 8"),
        ({"seed": -1}, "seed is -1"),
        ({"counts": {"train": -2}}, "-2 scenes for split 'train'"),
        ({"counts": {"../train": 1}}, "split '../train'"),
    ],
)
def test_parameters_without_sense_are_refused(tmp_path, wrong, sentence):
    with pytest.raises(DataError, match=sentence):
        make_toy_scenes(tmp_path, **SMALL | wrong)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_nothing_half_made(tmp_path, report):
    """Kill the drawing for real, then run it again."""
    code = (
        "import sys; from pathlib import Path; from rsfoundation.prepare.toy import make_toy_scenes;"
        f"make_toy_scenes(Path(sys.argv[1]), **{SMALL | {'counts': {'train': 4000}}!r}, tasks=('detection',))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    images = tmp_path / ".detection.partial" / "train" / "images"
    deadline = time.monotonic() + 120
    while not images.is_dir() or len(list(images.iterdir())) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "detection").exists()
    make_toy_scenes(tmp_path, **SMALL, tasks=("detection",))
    assert digests(tmp_path / "detection") == digests(report.folders["detection"])
    assert names(tmp_path) == [".lock", "detection"]
