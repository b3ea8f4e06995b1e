"""SSDD, HRSID and other COCO polygons: layouts, boxes around shapes, and files that do not agree."""

import json

import cv2
import numpy as np
import pytest

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.oriented.sar_ships import CocoOrientedDataset, HRSIDDataset, SSDDDataset
from rsfoundation.geometry.boxes import quad_to_rbox, rbox_to_quad
from rsfoundation.visualization import draw_boxes

SHIP = (30.0, 20.0, 24.0, 8.0, 0.5)


def polygon(box=SHIP):
    """An outline of eight points whose smallest rectangle is the box."""
    corners = rbox_to_quad([box])[0]
    return np.stack([corners, (corners + np.roll(corners, -1, axis=0)) / 2], axis=1).reshape(-1).tolist()


def coco(*annotations, names=("a.jpg",), kind="ship", size=(64, 48)):
    width, height = size
    images = [{"id": i, "file_name": name, "width": width, "height": height} for i, name in enumerate(names)]
    return json.dumps(
        {"images": images, "annotations": list(annotations), "categories": [{"id": 1, "name": kind}]}
    )


def annotation(segmentation, number=1, image=0, **more):
    return {"id": number, "image_id": image, "category_id": 1, "segmentation": segmentation, **more}


@pytest.mark.parametrize(
    ("kind", "labels", "images"),
    [
        (SSDDDataset, "annotations/SSDD_instances_train.json", "imgs"),
        (SSDDDataset, "train/train.json", "train/images"),
        (SSDDDataset, "PSeg_SSDD/coco_style/annotations/train.json", "PSeg_SSDD/coco_style/images/train"),
        (HRSIDDataset, "annotations/train2017.json", "JPEGImages"),
    ],
)
def test_coco_layouts(tmp_path, draw, write, kind, labels, images):
    draw(tmp_path / images / "a.jpg")
    write(tmp_path / labels, coco(annotation([polygon()])))
    entry = kind(data_root=str(tmp_path)).get_data_info(0)
    np.testing.assert_allclose(quad_to_rbox([entry["instances"][0]["bbox"]]), [SHIP], atol=1e-3)
    assert (entry["img_id"], entry["width"], entry["height"]) == ("a", 64, 48)


@pytest.mark.parametrize("kind", [SSDDDataset, HRSIDDataset])
def test_dota_text_files(tmp_path, draw, write, kind):
    draw(tmp_path / "train/images/a.jpg")
    write(tmp_path / "train/labelTxt/a.txt", "10 10 30 10 30 20 10 20 ship 0\n")
    assert len(kind(data_root=str(tmp_path)).get_cat_ids(0)) == 1


def test_rotated_xml(tmp_path, draw, write):
    draw(tmp_path / "RBox_SSDD/voc_style/JPEGImages_test/a.jpg")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("cx", "cy", "w", "h", "angle"), SHIP, strict=True))
    content = f"<annotation><object><name>ship</name><robndbox>{box}</robndbox></object></annotation>"
    write(tmp_path / "RBox_SSDD/voc_style/Annotations_test/a.xml", content)
    entry = SSDDDataset(data_root=str(tmp_path), split="test").get_data_info(0)
    np.testing.assert_allclose(quad_to_rbox([entry["instances"][0]["bbox"]]), [SHIP], atol=1e-4)


def test_masks_several_parts_and_crowds(tmp_path, draw, write):
    draw(tmp_path / "imgs/a.jpg")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:15, 20:41] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.T.reshape(-1), [2]]))))
    counts = [*([0] if mask[0, 0] else []), *runs.tolist()]
    halves = [[10, 10, 18, 10, 18, 16, 10, 16], [22, 10, 30, 10, 30, 16, 22, 16]]
    write(
        tmp_path / "annotations/SSDD_instances_train.json",
        coco(
            annotation({"counts": counts, "size": [48, 64]}, 1),
            annotation(halves, 2, iscrowd=1),
            kind="Ship",
        ),
    )
    entry = SSDDDataset(data_root=str(tmp_path), ignore_difficulty=1).get_data_info(0)
    boxes = quad_to_rbox([item["bbox"] for item in entry["instances"]])
    np.testing.assert_allclose(boxes[:, :4], [(30, 12, 20, 4), (20, 13, 20, 6)], atol=1e-3)
    assert [item["ignore_flag"] for item in entry["instances"]] == [0, 1]


def test_malformed_annotations_and_missing_images(tmp_path, draw, write):
    draw(tmp_path / "imgs/a.jpg")
    file = write(
        tmp_path / "annotations/SSDD_instances_train.json",
        coco(
            annotation([[1, 2, 3, 4]]),
            annotation([], 2),
            annotation([polygon()], 3),
            names=("a.jpg", "b.jpg"),
        ),
    )
    with pytest.raises(DataError, match="2 points") as caught:
        SSDDDataset(data_root=str(tmp_path))
    assert caught.value.where == f"{file}, annotation 1"
    data = SSDDDataset(data_root=str(tmp_path), on_error="skip")
    assert data.report.counts == {
        "annotations without a polygon or mask": 2,
        "listed images that do not exist": 1,
    }
    assert data.report.files["listed images that do not exist"] == ["b.jpg"]
    assert len(data) == 1 and len(data.get_cat_ids(0)) == 1


def test_what_is_no_coco_json_and_no_layout(tmp_path, draw, write):
    with pytest.raises(DataError, match=r"expected one of .*train2017\.json"):
        HRSIDDataset(data_root=str(tmp_path))
    draw(tmp_path / "JPEGImages/a.jpg")
    for content in ("[]", "{", '{"images": []}'):
        write(tmp_path / "annotations/train2017.json", content)
        with pytest.raises(DataError, match="no COCO json"):
            HRSIDDataset(data_root=str(tmp_path))


def test_annotations_of_no_image_and_categories_without_a_name(tmp_path, draw, write):
    draw(tmp_path / "imgs/a.jpg")
    file = tmp_path / "a.json"
    options = dict(data_root=str(tmp_path), ann_file="a.json", image_dir="imgs")
    write(file, coco(annotation([polygon()]), annotation([polygon()], number=2, image="0")))
    with pytest.raises(DataError, match="image_id '0' is not among the images") as caught:
        SSDDDataset(**options)
    assert caught.value.where.endswith("a.json, annotation 2")
    data = SSDDDataset(**options, on_error="skip")
    assert (
        data.report.counts == {"annotations of an image that is not listed": 1}
        and len(data.get_cat_ids(0)) == 1
    )
    write(file, coco().replace('"name"', '"title"'))
    with pytest.raises(DataError, match="no COCO json"):
        SSDDDataset(**options)


def test_a_set_without_images_is_refused_and_one_without_objects_remarked_on(tmp_path, draw, write):
    draw(tmp_path / "imgs/a.jpg")
    options = dict(data_root=str(tmp_path), ann_file="a.json", image_dir="imgs")
    write(tmp_path / "a.json", coco())
    warnings = SSDDDataset(**options).report.warnings
    assert warnings == ["no labelled object at all: nothing can be learned from it"]
    write(tmp_path / "a.json", coco(names=()))
    with pytest.raises(DataError, match="no image is left"):
        SSDDDataset(**options)
    write(tmp_path / "a.json", coco(names=("b.jpg",)))
    with pytest.raises(DataError, match=r"no image is left: left out 1 .*\(b\.jpg\)"):
        SSDDDataset(**options, on_error="skip")


def test_splits_read_as_one(samples):
    data = SSDDDataset(data_root=str(samples / "ssdd_rsprompter"), split=["train", "val"])
    assert [entry["img_id"] for entry in data.data_list] == ["000002", "000001"]
    assert min(len(entry["instances"]) for entry in data.data_list) >= 1


def test_ten_classes_of_nwpu(samples):
    root = samples / "nwpu_vhr10_rsprompter"
    file = "annotations/NWPU_instances_train.json"
    names = [item["name"] for item in json.loads((root / file).read_text())["categories"]]
    data = CocoOrientedDataset(
        data_root=str(root), ann_file=file, image_dir="imgs", metainfo={"classes": names}
    )
    assert len(data) >= 4 and sum(len(data.get_cat_ids(row)) for row in range(len(data))) > 10


def test_hrsid_sample_from_its_instance_masks(samples, tmp_path, write):
    """The sample has masks and no json; the json is made here, and boxes must cover the ships' pixels."""
    root = samples / "hrsid_sample"
    rows, pictures, masks = [], [], {}
    for number, image in enumerate(sorted((root / "images").iterdir())):
        pictures.append(image.name)
        colours = cv2.imread(str(root / f"masks/{image.stem}_instance_id_RGB.png")).reshape(-1, 3)
        masks[number] = colours.any(axis=1).reshape(800, 800)
        for colour in np.unique(colours[colours.any(axis=1)], axis=0):
            one = (colours == colour).all(axis=1).reshape(800, 800).astype(np.uint8)
            shapes, _ = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            shape = [part.reshape(-1).tolist() for part in shapes if len(part) >= 3]
            rows += [annotation(shape, len(rows), number)] if shape else []
    (tmp_path / "JPEGImages").symlink_to(root / "images")
    write(tmp_path / "annotations/train2017.json", coco(*rows, names=pictures, size=(800, 800)))
    data = HRSIDDataset(data_root=str(tmp_path))
    assert len(data) == 2
    for number, entry in enumerate(data.data_list):
        covered = np.zeros((800, 800), np.uint8)
        for item in entry["instances"]:
            corners = np.rint(np.array(item["bbox"]).reshape(4, 2)).astype(np.int32)
            cv2.fillConvexPoly(covered, corners, 1)
        assert covered[masks[number]].mean() > 0.97
        quads = np.array([item["bbox"] for item in entry["instances"]]).reshape(-1, 4, 2)
        picture = draw_boxes(
            cv2.imread(entry["img_path"]), quads, [(255, 0, 0)] * len(quads), [""] * len(quads)
        )
        assert picture.shape == (800, 800, 3)


def test_two_images_of_one_id_stop_or_the_first_stays(tmp_path, draw, write):
    for name in ("a", "b"):
        draw(tmp_path / f"imgs/{name}.jpg")
    record = json.loads(coco(annotation([polygon()]), names=("a.jpg", "b.jpg")))
    record["images"][1]["id"] = 0
    write(tmp_path / "annotations/SSDD_instances_train.json", json.dumps(record))
    with pytest.raises(DataError, match=r"a\.jpg and b\.jpg have the id 0"):
        len(SSDDDataset(data_root=str(tmp_path)))
    data = SSDDDataset(data_root=str(tmp_path), on_error="skip")
    assert [data.get_data_info(row)["img_id"] for row in range(len(data))] == ["a"]
    assert data.report.counts == {"images with the id of an earlier one": 1}


@pytest.fixture
def xml_ships(tmp_path, draw, write):
    """SSDD's xml layout with ships of 24 x 8 px; ``order`` names the tags of the long and the short side."""

    def make(order, count=20):
        draw(tmp_path / "JPEGImages_train/a.jpg")
        cx, cy, long, short, angle = SHIP
        tags = dict(zip(order, (long, short), strict=True))
        box = f"<cx>{cx}</cx><cy>{cy}</cy><w>{tags['w']}</w><h>{tags['h']}</h><angle>{angle}</angle>"
        ship = f"<object><name>ship</name><robndbox>{box}</robndbox></object>"
        write(tmp_path / "Annotations_train/a.xml", f"<annotation>{ship * count}</annotation>")
        return str(tmp_path)

    return make


@pytest.mark.parametrize(("order", "dialect"), [("wh", "roLabelImg"), ("hw", "RSDD-SAR")])
def test_the_angle_of_a_box_is_that_of_the_side_of_its_dialect(xml_ships, order, dialect):
    data = SSDDDataset(data_root=xml_ships(order), dialect=dialect)
    np.testing.assert_allclose(
        quad_to_rbox([data.get_data_info(0)["instances"][0]["bbox"]]), [SHIP], atol=1e-4
    )
    assert not data.report.warnings


@pytest.mark.parametrize(("count", "doubted"), [(20, True), (5, False)])
def test_boxes_that_are_all_longer_along_h_cast_doubt_on_the_dialect(xml_ships, count, doubted):
    (*warnings,) = SSDDDataset(data_root=xml_ships("hw", count)).report.warnings
    assert (f"{count} of {count} boxes" in "".join(warnings)) == doubted
    assert not doubted or "dialect='RSDD-SAR'" in warnings[0]


def test_an_unknown_dialect_is_refused(xml_ships):
    with pytest.raises(ConfigError, match="dialect"):
        SSDDDataset(data_root=xml_ships("wh"), dialect="rsdd")
