"""Result files of any program against labels, by the rules of the devkit, mmrotate and COCO."""

import json
import zipfile

import cv2
import numpy as np
import pytest
from quad_overlap import winding_overlap
from submission_files import class_files, document

from rsfoundation.cli import main
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, DOTA_V1
from rsfoundation.evaluation.submission.evaluate import evaluate_results

CLASSES = ("ship", "plane")


def devkit_ap(found, truth, overlap, count=True):
    """Return the 11-point AP of one class as DOTA's devkit computes it, detection by detection.

    Args:
        found: Rows ``(image, score, box)``.
        truth: Image -> rows ``(box, difficult)``.
        overlap: Returns the IoU of two boxes.
    """
    used = {image: [False] * len(rows) for image, rows in truth.items()}
    right, wrong = [], []
    for image, _, box in sorted(found, key=lambda row: -row[1]):
        overlaps = [overlap(other, box) for other, _ in truth[image]]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] > 0.5
        if hit and truth[image][best][1]:
            continue
        right.append(hit and not used[image][best])
        wrong.append(not right[-1])
        if hit:
            used[image][best] = True
    total = sum(not difficult for rows in truth.values() for _, difficult in rows)
    recall = np.cumsum(right) / total
    precision = np.cumsum(right) / (np.cumsum(right) + np.cumsum(wrong))
    best = [precision[recall >= level].max(initial=0) for level in np.arange(0, 1.1, 0.1)]
    return float(np.sum(np.array(best) / 11))


def quad_iou(a, b):
    return winding_overlap(*(np.reshape(corners, (4, 2)) for corners in (a, b)))


def upright_iou(a, b):
    """Return the devkit's IoU of Task2: labels in whole pixels, and sides that include the last pixel."""
    common = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]) + 1, 0, None))
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return common / (sum(areas) - common)


def draw_quads(random, count):
    """Return four-cornered boxes, hardly any of them rectangles, some of them concave."""
    middle = random.uniform(60, 440, (count, 1, 2))
    sides = random.uniform(10, 40, (count, 1, 2)) * [[[-1, -1], [1, -1], [1, 1], [-1, 1]]]
    quads = middle + sides + random.normal(0, 4, (count, 4, 2))
    quads[::7, 2] = quads[::7].mean(axis=1) - 0.3 * sides[::7, 2]  # a corner pushed in beyond the middle
    return np.round(quads, 1).reshape(-1, 8)


@pytest.fixture
def data(tmp_path):
    """Return a folder of labels, and labels and detections of each class of four images."""
    random = np.random.default_rng(5)
    truth = {name: {} for name in CLASSES}
    found = {name: [] for name in CLASSES}
    (tmp_path / "labelTxt").mkdir()
    for number in range(4):
        image, lines = f"P000{number}", ["imagesource:x", "gsd:0.1"]
        for name in CLASSES:
            quads, hard = draw_quads(random, 30), random.integers(0, 3, 30) * (random.random(30) < 0.3)
            truth[name][image] = list(zip(quads, hard > 0, strict=True))
            lines += [
                f"{' '.join(map(str, quad))} {name} {level}" for quad, level in zip(quads, hard, strict=True)
            ]
            near = quads[random.integers(0, 30, 60)] + random.normal(0, 2.5, (60, 8))
            boxes = np.round(np.concatenate([near, draw_quads(random, 20)]), 2)
            scores = random.permutation(80) / 100 + number / 1000
            found[name] += [(image, score, box) for score, box in zip(scores, boxes, strict=True)]
        lines.append("1 1 9 1 9 9 1 9 airport 0")
        (tmp_path / "labelTxt" / f"{image}.txt").write_text("\n".join(lines))
    return tmp_path / "labelTxt", truth, found


def archive(make_zip, found, task="Task1", names=DOTA_V1):
    files = {f"{task}_{name}.txt": "" for name in names}
    for name, rows in found.items():
        lines = [f"{image} {score} {' '.join(map(str, box))}\n" for image, score, box in rows]
        files[f"{task}_{name}.txt"] = "".join(lines)
    return make_zip(files, f"{task}.zip")


def test_task1_by_the_devkit_with_quads_of_every_shape(data, make_zip):
    labels, truth, found = data
    (scores,) = evaluate_results(archive(make_zip, found), labels)
    aps = {row.name: row.ap50 for row in scores.classes}
    for name in CLASSES:
        expected = devkit_ap(found[name], truth[name], quad_iou)
        assert aps[name] == pytest.approx(expected, abs=1e-12) and 0.2 < expected < 0.95
    assert scores.kind == "DOTA Task1" and scores.protocol == "voc07, devkit rules, 4 images"
    assert scores.metrics["mAP50"] == pytest.approx(sum(aps[name] for name in CLASSES) / 15)
    assert any("do not count" in note for note in scores.notes)
    assert "left out labels of other classes: 4 airport" in scores.notes
    objects = {row.name: row.objects for row in scores.classes}
    assert objects["ship"] == sum(not hard for rows in truth["ship"].values() for _, hard in rows)


def test_rectangles_around_the_corners_are_another_number(data, make_zip):
    labels, _, found = data
    path = archive(make_zip, found)
    (devkit,), (mmrotate,) = (evaluate_results(path, labels, rules) for rules in ("devkit", "mmrotate"))
    assert abs(devkit.classes[6].ap50 - mmrotate.classes[6].ap50) > 0.01
    assert mmrotate.classes[6].name == "ship" and mmrotate.classes[6].objects == 120
    assert mmrotate.metrics["mAP50"] > 5 * devkit.metrics["mAP50"], "the mean is over two classes of fifteen"


def test_difficult_objects_count_in_later_versions_and_on_demand(data, make_zip):
    labels, truth, found = data
    plain = {
        name: {image: [(box, False) for box, _ in rows] for image, rows in truth[name].items()}
        for name in truth
    }
    expected = [devkit_ap(found[name], plain[name], quad_iou) for name in CLASSES]
    for version in ("1.5", "2.0"):
        path = archive(make_zip, found, names=DOTA_CLASSES[version])
        (scores,) = evaluate_results(path, labels)
        aps = {row.name: row.ap50 for row in scores.classes}
        assert [aps[name] for name in CLASSES] == pytest.approx(expected) and len(aps) == len(
            DOTA_CLASSES[version]
        )
    (asked,) = evaluate_results(archive(make_zip, found), labels, difficult="count")
    assert asked.classes[6].ap50 == pytest.approx(expected[0])


def test_task2_by_the_devkit(data, make_zip):
    labels, truth, found = data

    def upright(box):
        corners = np.reshape(box, (4, 2))
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    boxes = {
        name: [(image, score, upright(box)) for image, score, box in rows] for name, rows in found.items()
    }
    known = {
        name: {
            image: [(np.trunc(upright(box)), hard) for box, hard in rows] for image, rows in images.items()
        }
        for name, images in truth.items()
    }
    path = archive(make_zip, boxes, "Task2")
    (scores,) = evaluate_results(path, labels)
    aps = {row.name: row.ap50 for row in scores.classes}
    for name in CLASSES:
        assert aps[name] == pytest.approx(devkit_ap(boxes[name], known[name], upright_iou), abs=1e-12)
    (mmrotate,) = evaluate_results(path, labels, "mmrotate")
    assert scores.kind == "DOTA Task2" and mmrotate.classes[6].ap50 != scores.classes[6].ap50


def test_equal_scores_are_ranked_in_the_order_of_the_files(tmp_path, make_zip):
    """Fifty detections of one score, of which those that come first count as the better ones."""
    (tmp_path / "labels").mkdir()
    quads = [f"{20 * n} 0 {20 * n + 10} 0 {20 * n + 10} 10 {20 * n} 10" for n in range(50)]
    (tmp_path / "labels" / "P1.txt").write_text("".join(f"{quad} ship 0\n" for quad in quads[:25]))
    good_first = "".join(f"P1 0.5 {quad}\n" for quad in quads)
    bad_first = "".join(f"P1 0.5 {quad}\n" for quad in quads[::-1])
    first, last = (
        evaluate_results(make_zip(class_files(ship=lines)), tmp_path / "labels")[0].classes[6].ap50
        for lines in (good_first, bad_first)
    )
    assert first == pytest.approx(1.0) and last < 0.6


def test_fair1m_results(tmp_path, make_zip):
    labels = tmp_path / "labelXml"
    labels.mkdir()
    for name in ("7", "8"):
        (labels / f"{name}.xml").write_text(document(name=f"{name}.tif"))
    path = make_zip({"test/7.xml": document(), "test/8.xml": document("", "8.tif")}, "test.zip")
    (scores,) = evaluate_results(path, labels)
    rows = {row.name: row for row in scores.classes}
    assert scores.kind == "FAIR1M" and len(rows) == 37
    assert rows["Small_Car"].objects == 2 and rows["Small_Car"].detections == 1
    assert rows["Small_Car"].ap50 == pytest.approx(6 / 11), "half of the objects at precision 1"
    strange = document().replace("Small Car", "Rocket")
    with pytest.raises(DataError, match="no detection of a known class") as caught:
        evaluate_results(make_zip({"test/7.xml": strange}, "test.zip"), labels)
    assert caught.value.where.endswith("test/7.xml")


@pytest.mark.parametrize(
    ("line", "what"),
    [("P0001 0.9 1 2 3\n", "is no detection"), ("P0001 high 10 10 20 10 20 20 10 20\n", "is no detection")],
)
def test_malformed_lines_have_a_place(data, make_zip, line, what):
    good = "P0001 0.9 10 10 20 10 20 20 10 20\n\n"
    with pytest.raises(DataError, match=what) as caught:
        evaluate_results(make_zip(class_files(ship=good + line)), data[0])
    assert caught.value.where.endswith("Task1.zip/Task1_ship.txt:3")


def test_files_in_a_folder_are_read_and_two_of_a_class_are_refused(data, make_zip):
    labels, _, found = data
    plain = evaluate_results(archive(make_zip, found), labels)[0].metrics
    with zipfile.ZipFile(archive(make_zip, found)) as given:
        files = {name: given.read(name).decode() for name in given.namelist()}
    nested = {f"results/{name}": text for name, text in files.items()}
    assert evaluate_results(make_zip(nested), labels)[0].metrics == plain
    with pytest.raises(DataError, match=r"two files in the archive: 'results/Task1_ship.txt' and 'b/Task1"):
        evaluate_results(make_zip({**nested, "b/Task1_ship.txt": ""}), labels)


def test_images_without_labels_are_counted_and_named(data, make_zip):
    lines = "".join(f"P{n} 0.9 10 10 20 10 20 20 10 20\n" for n in (1, 1, 2))
    with pytest.raises(
        DataError, match="3 detections in 2 images that have no label, first: P1, P2; 4 images"
    ):
        evaluate_results(make_zip(class_files(ship=lines)), data[0])


def test_labels_that_are_not_there(data, make_zip, tmp_path):
    path = make_zip(class_files())
    with pytest.raises(DataError, match="does not exist"):
        evaluate_results(path, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no label file"):
        evaluate_results(path, tmp_path / "empty")
    with pytest.raises(DataError, match="no file Task1_<class>"):
        evaluate_results(make_zip({"readme.txt": ""}), data[0])
    with pytest.raises(ConfigError, match="COCO results, not to archives"):
        evaluate_results(path, data[0], "coco")


def test_missing_class_files_and_classes_of_one_s_own(data, make_zip):
    labels, _, found = data
    (scores,) = evaluate_results(make_zip({"Task1_ship.txt": "", "Task1_plane.txt": ""}), labels)
    assert any(note.startswith("no file of 13 classes") for note in scores.notes)
    (labels / "P0000.txt").write_text("0 0 9 0 9 9 0 9 boat 0")
    with pytest.raises(DataError, match="unknown class 'boat'"):
        evaluate_results(archive(make_zip, found), labels)
    mine = archive(make_zip, {"boat": [("P0000", 0.5, (0, 0, 9, 0, 9, 9, 0, 9))]}, names=())
    (scores,) = evaluate_results(mine, labels, classes=("boat", "ship", "plane"))
    assert [row.name for row in scores.classes] == ["boat", "ship", "plane"]
    assert scores.classes[0].ap50 == pytest.approx(1.0)


def coco_files(tmp_path, boxes=4):
    """Write annotations and perfect results but for one; boxes of 4, 5 or 8 numbers, without masks."""
    random = np.random.default_rng(0)
    annotations, results = [], []
    for image in (1, 2):
        for number in range(5):
            x, y, w, h = (*random.uniform(0, 300, 2), 40, 20)
            box = [x, y, w, h]
            if boxes == 8:
                box = [x, y, x + w, y + 5, x + w, y + h, x, y + h - 5]
            elif boxes == 5:
                box = [x, y, w, h, 0.5]
            row = dict(image_id=image, category_id=4 + number % 2, bbox=box)
            annotations.append(dict(row, id=len(annotations), area=w * h, iscrowd=0))
            results.append(dict(row, score=0.5 + number / 10))
    results[-1] = dict(results[-1], bbox=[value + 100 for value in results[-1]["bbox"]])
    images = [dict(id=n, file_name=f"{n}.png", width=512, height=512) for n in (1, 2)]
    categories = [dict(id=4, name="ship"), dict(id=5, name="plane")]
    known, found = tmp_path / "annotations.json", tmp_path / "found.json"
    known.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    found.write_text(json.dumps(results))
    return found, known


def test_coco_results_by_coco_s_rules(tmp_path):
    found, known = coco_files(tmp_path)
    (scores,) = evaluate_results(found, known)
    assert scores.kind == "COCO bbox" and [row.name for row in scores.classes] == ["ship", "plane"]
    assert [row.objects for row in scores.classes] == [6, 4]
    assert scores.classes[1].ap == 1.0, "annotations have the ids 0 to 9, and all count"
    # a right and a wrong one at the top, then four right ones: 1 up to a recall of 1/6, then 5/6 up to 5/6
    assert scores.classes[0].ap50 == pytest.approx((17 + 67 * 5 / 6) / 101)
    assert scores.metrics["mAP50"] == pytest.approx((scores.classes[0].ap50 + 1) / 2)
    (folder,) = evaluate_results(found, tmp_path / "annotations.json", classes=("plane",))
    assert folder.metrics["mAP"] == 1.0 and "6 detections of other categories" in " ".join(folder.notes)
    with pytest.raises(DataError, match="2 json files in the folder"):
        evaluate_results(found, tmp_path)


def test_coco_masks(tmp_path):
    found, known = coco_files(tmp_path)
    for file in (found, known):
        content = json.loads(file.read_text())
        for row in content if isinstance(content, list) else content["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        file.write_text(json.dumps(content))
    boxes, masks = evaluate_results(found, known)
    assert (boxes.kind, masks.kind) == ("COCO bbox", "COCO segm")
    assert masks.metrics["mAP50"] == pytest.approx(boxes.metrics["mAP50"])


@pytest.mark.parametrize("boxes", [4, 5, 8])
@pytest.mark.parametrize("rules", ["devkit", "mmrotate"])
def test_oriented_coco_results(tmp_path, boxes, rules):
    found, known = coco_files(tmp_path, boxes)
    (scores,) = evaluate_results(found, known, rules)
    rows = {row.name: row for row in scores.classes}
    assert rows["plane"].ap75 == pytest.approx(1.0) and 0.5 < rows["ship"].ap50 < 1
    if boxes != 4:
        with pytest.raises(ConfigError, match="upright boxes"):
            evaluate_results(found, known)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "no json"),
        ('{"images": []}', "holds dict; expected a list"),
        ('[{"image_id": 1, "category_id": 4, "bbox": [1, 2, 3], "score": 1}]', "is no detection"),
        ('[{"image_id": 9, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 1}]', "no label, first: 9"),
    ],
)
def test_bad_coco_results(tmp_path, content, what):
    found, known = coco_files(tmp_path)
    found.write_text(content)
    with pytest.raises(DataError, match=what):
        evaluate_results(found, known)


def test_the_verb_prints_tables_and_writes_files(data, make_zip, tmp_path, capsys):
    labels, _, found = data
    words = [
        "--labels",
        labels,
        "-o",
        tmp_path / "report",
        "--json",
        tmp_path / "scores.json",
        "--ap",
        "voc12",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["submission", "evaluate", *map(str, [archive(make_zip, found), *words])])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "voc12, devkit rules, 4 images" in said and "note: left out labels" in said
    (one,) = json.loads((tmp_path / "scores.json").read_text())["results"]
    assert (
        one["kind"] == "DOTA Task1"
        and one["classes"][0]["name"] == "plane"
        and one["classes"][1]["ap50"] is None
    )
    assert cv2.imread(str(tmp_path / "report" / "precision_recall.png")) is not None
