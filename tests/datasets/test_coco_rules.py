"""COCO content that breaks a rule: an error with count, place and fix, the right value, or a note."""

import coco_files as coco
import pytest

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.datasets.instance import CocoInstanceDataset


def read(root, **options):
    return CocoInstanceDataset(
        data_root=str(root),
        ann_file="labels.json",
        data_prefix=dict(img="images/"),
        metainfo=dict(classes=coco.CLASSES),
        pipeline=[],
        **options,
    )


def labels(data):
    return [[item["bbox_label"] for item in data.get_data_info(row)["instances"]] for row in range(len(data))]


def boxes(data):
    return [item["bbox"] for row in range(len(data)) for item in data.get_data_info(row)["instances"]]


GOOD = [[0, 0, 1]] * 3
NO_SHAPE = "annotations without a polygon or mask"
ERRORS = {
    "no segmentation": (coco.first(segmentation=[]), NO_SHAPE, 1, "neither a polygon nor a mask"),
    "two points": (coco.first(segmentation=[[5, 5, 20, 20]]), NO_SHAPE, 1, "a polygon of 2 points"),
    "odd numbers": (coco.first(segmentation=[[5, 5, 20, 20, 7, 9, 1]]), NO_SHAPE, 1, "odd count"),
    "flat list": (coco.first(segmentation=[5, 5, 20, 20, 7, 9]), NO_SHAPE, 1, "no list of polygons"),
    "infinite": (coco.first(segmentation=[[5, 5, 20, float("inf"), 7, 9]]), NO_SHAPE, 1, "not finite"),
    "no counts": (coco.first(segmentation=dict(size=[128, 160])), NO_SHAPE, 1, "without size or counts"),
    "short counts": (
        coco.first(segmentation=dict(size=[128, 160], counts=[5, 10])),
        NO_SHAPE,
        1,
        "run lengths of 15 pixels; expected 20480",
    ),
    "mask of another size": (
        coco.each(lambda item: coco.to_mask(item, 160, 160)),
        "masks of another size than their image",
        9,
        "the mask is 160 x 160, and its image 160 x 128",
    ),
    "no such image": (
        coco.first(image_id=99),
        "annotations of an image that is not listed",
        1,
        "image_id 99 is not among the images",
    ),
    "ids as text": (
        coco.text_ids,
        "annotations of an image that is not listed",
        9,
        r"image_id 1 is not among the images \('1' is: write both as whole numbers\)",
    ),
    "no such category": (
        coco.first(category_id=7),
        "annotations of an unknown category",
        1,
        "category_id 7 is not among the categories",
    ),
    "corners": (coco.each(coco.corners), "boxes given as corners", 9, "given by its corners"),
    "fractions": (
        coco.each(coco.fractions),
        "boxes given as fractions of the image",
        9,
        "given in fractions of the image",
    ),
    "a box elsewhere": (
        coco.first(bbox=[100, 90, 30, 31]),
        "boxes that are not around their mask",
        1,
        "is not around its mask, which reaches from and to 4, 29, 34, 60",
    ),
    "a box of three numbers": (coco.first(bbox=[1, 2, 3]), "malformed boxes", 1, "expected 4 numbers"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_count_annotation_and_fix(tmp_path, name):
    change, kind, count, message = ERRORS[name]
    record = coco.content()
    change(record)
    file = coco.write(tmp_path, record)
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path)
    assert raised.value.where == f"{file}, annotation 1" and "on_error='skip'" in raised.value.fix
    assert count == 1 or f"the first of {count} problems: {count} {kind}" in raised.value.what


@pytest.mark.parametrize("name", [name for name in ERRORS if ERRORS[name][2] == 1])
def test_skip_leaves_one_out_or_takes_the_box_of_the_mask(tmp_path, name):
    change, kind, count, _ = ERRORS[name]
    record = coco.content()
    change(record)
    coco.write(tmp_path, record)
    data = read(tmp_path, on_error="skip")
    assert data.report.counts == {kind: count}
    kept = "box" in kind
    assert labels(data) == (GOOD if kept else [[0, 1], *GOOD[1:]])
    assert not kept or boxes(data)[0] == [4, 29, 34, 60]


@pytest.mark.parametrize("change", [coco.corners, coco.fractions])
def test_under_skip_the_boxes_of_a_whole_set_come_from_its_masks(tmp_path, change):
    record = coco.content()
    coco.each(change)(record)
    coco.write(tmp_path, record)
    data = read(tmp_path, on_error="skip")
    assert boxes(data) == [[x, y, x + w, y + h] for x, y, w, h in coco.BOXES] * 3
    assert sum(data.report.counts.values()) == 9


REPAIRED = {
    "ids from 0": (coco.count_from_zero, {}),
    "one id twice": (coco.first(id=2), {"annotations with the id of another one (renumbered)": 1}),
    "no area": (
        coco.each(lambda item: item.pop("area")),
        {"annotations without area (computed from the mask)": 9},
    ),
    "no iscrowd": (
        coco.each(lambda item: item.pop("iscrowd")),
        {"annotations without iscrowd (0 is taken)": 9},
    ),
    "no bbox": (
        coco.each(lambda item: item.pop("bbox")),
        {"annotations without bbox (taken from the mask)": 9},
    ),
    "run lengths": (coco.each(coco.to_mask), {}),
    "compressed run lengths": (coco.each(lambda item: coco.to_mask(item, compressed=True)), {}),
    "an unused category of one name": (
        coco.add_root,
        {"categories with the name of another one (read as one class)": 1},
    ),
    "two categories of one name": (
        coco.two_names,
        {"categories with the name of another one (read as one class)": 1},
    ),
    "a ring of two points": (
        lambda record: record["annotations"][0]["segmentation"].append([5, 5, 20, 20]),
        {"polygons of less than 3 points (removed)": 1},
    ),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_what_can_be_repaired_is_counted_and_read_right(tmp_path, name):
    change, counts = REPAIRED[name]
    record = coco.content()
    change(record)
    coco.write(tmp_path, record)
    data = read(tmp_path)
    assert data.report.counts == counts and labels(data) == GOOD
    assert boxes(data) == [[x, y, x + w, y + h] for x, y, w, h in coco.BOXES] * 3
    assert (data.report.images, data.report.objects) == (3, 9)


def test_an_area_is_that_of_the_mask(tmp_path):
    from rsfoundation.datasets.instance import coco_index

    record = coco.content()
    coco.each(lambda item: item.pop("area"))(record)
    index = coco_index(coco.write(tmp_path, record))
    assert [item["area"] for item in index.loadAnns(index.getAnnIds(imgIds=[1]))] == [930, 1040, 1000]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            coco.swap_sizes,
            "images with width and height exchanged in the file",
            "0.png is 160 x 128 px, and the file says 128 x 160: width and height are exchanged",
        ),
        (
            coco.halve_sizes,
            "images of another size than stated",
            "0.png is 160 x 128 px, and the file says 80 x 64",
        ),
    ],
)
def test_sizes_that_are_not_the_image_s_stop_at_the_start(tmp_path, change, kind, message):
    record = coco.content()
    change(record)
    file = coco.write(tmp_path, record)
    with pytest.raises(DataError, match=message) as raised:
        read(tmp_path)
    assert raised.value.where == f"{file}, image 1" and f"3 {kind} (0.png, 1.png, 2.png)" in raised.value.what
    record["images"][1:] = coco.content()["images"][1:]
    coco.write(tmp_path, record)
    data = read(tmp_path, on_error="skip")
    assert data.report.counts == {kind: 1} and len(data) == 2


def test_broken_and_missing_images_under_skip(tmp_path):
    coco.write(tmp_path, coco.content())
    (tmp_path / "images/0.png").unlink()
    broken = tmp_path / "images/1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    data = read(tmp_path, on_error="skip")
    assert data.report.counts == {"listed images that do not exist": 1, "unreadable images": 1}
    assert data.report.files["unreadable images"] == ["1.png"] and labels(data) == GOOD[:1]
    broken.unlink()
    (tmp_path / "images/2.png").unlink()
    with pytest.raises(DataError, match="no image is left: left out 3 listed images"):
        read(tmp_path, on_error="skip")


def test_crowd_regions_are_counted(tmp_path):
    record = coco.content()
    for item in record["annotations"][:2]:
        coco.to_mask(item)
        item.update(iscrowd=1)
    coco.write(tmp_path, record)
    assert read(tmp_path).report.counts == {"crowd regions (not trained on)": 2}
    counts = read(tmp_path, test_mode=True).report.counts
    assert counts == {"crowd regions (found or not, they do not count)": 2}


def test_sets_of_crowds_or_without_objects_cannot_be_trained_on(tmp_path):
    record = coco.content()
    coco.each(lambda item: (coco.to_mask(item), item.update(iscrowd=1)))(record)
    coco.write(tmp_path, record)
    with pytest.raises(DataError, match="none of 3 images has an object to train on"):
        read(tmp_path, filter_cfg=dict(filter_empty_gt=True))
    (warning,) = read(tmp_path).report.warnings
    assert warning == "no labelled object at all: nothing can be learned from it (9 objects are crowds)"
    (warning,) = read(tmp_path, test_mode=True).report.warnings
    assert "COCO's metrics are -1" in warning
    coco.write(tmp_path, {**coco.content(), "annotations": []})
    with pytest.raises(DataError, match="none of 3 images has an object to train on"):
        read(tmp_path, filter_cfg=dict(filter_empty_gt=True))


def test_everything_that_mmdet_leaves_out_is_counted(tmp_path):
    record = coco.content()
    record["categories"].append(dict(id=9, name="car"))
    square = [[200, 20, 220, 20, 220, 40, 200, 40]]
    record["annotations"][0].update(category_id=9)
    record["annotations"][1].update(bbox=[200, 20, 20, 20], segmentation=square, area=400)
    record["annotations"][3].update(bbox=[5, 5, 0.5, 9], segmentation=[[5, 5, 5.5, 5, 5.5, 14]], area=4)
    record["annotations"][4].update(ignore=1)
    coco.write(tmp_path, record)
    data = read(tmp_path)
    assert data.report.counts == {
        "objects of class car": 1,
        "boxes beyond the image": 1,
        "boxes under 1 px": 1,
        "annotations marked 'ignore'": 1,
    }
    assert labels(data) == [[1], [1], [0, 0, 1]]


def test_all_problems_are_in_one_error(tmp_path):
    record = coco.content()
    record["annotations"][0].update(image_id=99)
    record["annotations"][4].update(segmentation=[])
    coco.write(tmp_path, record)
    (tmp_path / "images/0.png").unlink()
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    what = raised.value.what
    assert "the first of 3 problems" in what and "annotation 5" in what and "1 listed images" in what


def test_two_images_of_one_id(tmp_path):
    record = coco.content()
    record["images"][1]["id"] = 1
    coco.write(tmp_path, record)
    with pytest.raises(DataError, match=r"0\.png and 1\.png have the id 1"):
        read(tmp_path)


def test_classes_that_never_occur_are_a_warning(tmp_path):
    record = coco.content()
    record["annotations"] = [item for item in record["annotations"] if item["category_id"] == 1]
    coco.write(tmp_path, record)
    assert read(tmp_path).report.warnings == ["no object of 1 classes: pool"]


def test_an_unknown_policy_is_refused(tmp_path):
    coco.write(tmp_path, coco.content())
    with pytest.raises(ConfigError, match="on_error"):
        read(tmp_path, on_error="ignore")
