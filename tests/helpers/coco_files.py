"""One set of images with a COCO json, and the ways in which such files go wrong."""

import json

import cv2
import numpy as np
from pycocotools import mask as coco_mask

WIDTH, HEIGHT = 160, 128
CLASSES = ("roof", "pool")
BOXES = ((4, 29, 30, 31), (56, 60, 26, 40), (108, 20, 40, 25))  # x, y, width, height in every image


def content(images=3):
    """Return a well-formed file: two roofs and a pool in each image, ids from 1 on."""
    entries = [dict(id=n + 1, file_name=f"{n}.png", width=WIDTH, height=HEIGHT) for n in range(images)]
    annotations = []
    for image in entries:
        for number, (x, y, w, h) in enumerate(BOXES):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image["id"],
                    category_id=1 if number < 2 else 2,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
    return dict(
        images=entries,
        annotations=annotations,
        categories=[dict(id=1, name="roof"), dict(id=2, name="pool")],
    )


def write(root, record):
    """Write ``images/*.png`` of 160 x 128 px and ``labels.json``; return the json file."""
    (root / "images").mkdir(exist_ok=True)
    for number in range(3):
        cv2.imwrite(str(root / f"images/{number}.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    file = root / "labels.json"
    file.write_text(json.dumps(record))
    return file


def each(change):
    """Return a function that changes every annotation of a record."""
    return lambda record: [change(item) for item in record["annotations"]] and None


def first(**fields):
    """Return a function that changes fields of the first annotation."""
    return lambda record: record["annotations"][0].update(fields)


def to_mask(item, height=HEIGHT, width=WIDTH, *, compressed=False):
    """Replace the polygon of an annotation by run lengths of either kind."""
    x, y, w, h = item["bbox"]
    mask = np.zeros((height, width), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    if compressed:
        coded = coco_mask.encode(mask)
        item["segmentation"] = dict(size=coded["size"], counts=coded["counts"].decode())
        return
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    item["segmentation"] = dict(size=[height, width], counts=counts)


def swap_sizes(record):
    """Exchange width and height of every image entry."""
    for image in record["images"]:
        image.update(width=image["height"], height=image["width"])


def halve_sizes(record):
    """Halve width and height of every image entry."""
    for image in record["images"]:
        image.update(width=image["width"] // 2, height=image["height"] // 2)


def count_from_zero(record):
    """Number annotations from 0, as many tools do."""
    for item in record["annotations"]:
        item["id"] -= 1


def corners(item):
    """Write a box as x1, y1, x2, y2."""
    x, y, w, h = item["bbox"]
    item["bbox"] = [x, y, x + w, y + h]


def fractions(item):
    """Write a box in fractions of the image."""
    x, y, w, h = item["bbox"]
    item["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def add_root(record):
    """Put an unused category with the name of a class first, as Roboflow exports it."""
    record["categories"].insert(0, dict(id=0, name="roof", supercategory="none"))


def two_names(record):
    """Add a category with the name of another one, and use it."""
    record["categories"].append(dict(id=3, name="roof"))
    record["annotations"][0]["category_id"] = 3


def text_ids(record):
    """Write the ids of the images as text; those in annotations stay numbers."""
    for image in record["images"]:
        image["id"] = str(image["id"])
