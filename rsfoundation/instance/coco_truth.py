"""The ground truth of one image in a COCO layout, for pictures beside a prediction."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from rsfoundation.errors import DataError
from rsfoundation.instance.coco_file import read_coco
from rsfoundation.task import Classes


def find_coco_truth(image: Path, classes: Classes) -> DetDataSample | None:
    """Read what ``<root>/annotations/*.json`` says of ``<root>/<split>/<image>``.

    The file called ``*_<split>.json`` is asked; where there is none, all are, and the image must be in
    one of them only. Crowds and objects of classes that the model does not know are left out.

    Returns:
        A sample with ``gt_instances.masks`` and ``labels``; None where no truth is found.
    """
    files = sorted((image.parent.parent / "annotations").glob("*.json"))
    of_split = [file for file in files if file.stem.endswith(f"_{image.parent.name}")]
    found = [hit for file in of_split or files if (hit := _entry(file, image.name)) is not None]
    if len(found) != 1:
        return None
    content, entry = found[0]
    height, width = entry["height"], entry["width"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    objects = [
        (classes.names.index(names[item["category_id"]]), _decode(item["segmentation"], height, width))
        for item in content["annotations"]
        if item["image_id"] == entry["id"]
        and names[item["category_id"]] in classes.names
        and not item.get("iscrowd")
    ]
    masks = np.array([mask for _, mask in objects], np.uint8).reshape(-1, height, width)
    labels = torch.tensor([label for label, _ in objects], dtype=torch.long)
    return DetDataSample(gt_instances=InstanceData(masks=BitmapMasks(masks, height, width), labels=labels))


def _entry(file: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return a COCO file's content and its entry of an image, or None when it has none."""
    try:
        content = read_coco(file)
    except DataError:
        return None  # some other json: a prediction needs no truth
    hits = [item for item in content["images"] if Path(item["file_name"]).name == name]
    return (content, hits[0]) if hits else None


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Turn polygons, or run lengths of either kind, into a mask ``(height, width)``."""
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation)
