"""What oriented detection declares: names, pictures, writers."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.core.task import Classes
from rsfoundation.inference.oriented import make_result
from rsfoundation.registry import TASKS
from rsfoundation.tasks.detection import OrientedDetection

CLASSES = Classes(("ship", "plane", "harbor"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
IMAGE = np.full((640, 700, 3), 90, np.uint8)


def near(picture, colour):
    return (np.abs(picture.astype(int) - colour).max(axis=-1) < 40).sum()


@pytest.fixture
def sample():
    box = torch.tensor([[200.0, 200, 80, 40, 0.3], [400, 400, 80, 40, 1.0]])
    result = DetDataSample(metainfo={"img_path": "images/a.png"})
    result.gt_instances = InstanceData(bboxes=RotatedBoxes(box[:1]), labels=torch.tensor([0]))
    result.pred_instances = InstanceData(
        bboxes=box, labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.1])
    )
    return result


def test_registered_and_complete():
    task = TASKS.build({"type": "OrientedDetection"})
    assert task.primary_metric in task.metric_names.values()
    assert set(task.writers) == {"txt", "json"}


def test_comparison_shows_truth_left_and_confident_predictions_right(sample):
    picture = OrientedDetection().draw_comparison([IMAGE], sample, CLASSES)
    left, right = picture[30:670, :700], picture[30:670, 708:]
    assert picture.shape == (640 + 30 + 30, 700 + 8 + 700, 3)
    assert near(left, (255, 0, 0)) > 100 and near(right, (255, 0, 0)) > 100
    assert near(right, (0, 255, 0)) == 0, "a score below the limit is not shown"


def test_comparison_without_truth_or_predictions(sample):
    sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 5), labels=torch.zeros(0, dtype=torch.long))
    sample.pred_instances = sample.pred_instances[:0]
    assert OrientedDetection().draw_comparison([IMAGE], sample, CLASSES).shape == (670, 1408, 3)


def test_small_images_are_enlarged_with_their_boxes():
    boxes = np.array([(32.0, 32, 40, 20, 0)])
    result = make_result(boxes, np.array([0.9]), np.array([2]), CLASSES.names)
    picture = OrientedDetection().draw_result([IMAGE[:64, :64]], result, CLASSES)
    assert picture.shape[:2] == (640 + 30, 640)
    column = picture[200:440, 320].astype(int)
    rows = 200 + np.flatnonzero(column[:, 2] > column[:, 0] + 30)
    assert abs(rows.min() - 225) <= 2 and abs(rows.max() - 425) <= 2


def test_image_paths(sample):
    assert OrientedDetection().image_paths(sample) == ["images/a.png"]


def test_a_virtual_patch_is_drawn_on_its_window(sample, tmp_path):
    assert OrientedDetection().read_region(sample) is None
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 20:40] = (0, 0, 255)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), image)
    sample.set_metainfo({"img_path": str(tmp_path / "a.png"), "window": (20, 10, 20)})
    np.testing.assert_array_equal(
        OrientedDetection().read_region(sample), np.full((20, 20, 3), (255, 0, 0), np.uint8)
    )


def test_truth_alone(sample):
    drawn = OrientedDetection().draw_truth([IMAGE], sample, CLASSES)
    assert drawn.shape == (670, 700, 3) and near(drawn, (255, 0, 0)) > 100


def test_truth_is_found_beside_the_images(make_split):
    root = make_split({"a": "10 10 30 10 30 20 10 20 ship 0\n1 1 9 1 9 9 1 9 helipad 0", "b": None})
    task = OrientedDetection()
    found = task.find_truth([root / "train/images/a.png"], CLASSES)
    np.testing.assert_allclose(found.gt_instances.bboxes, [(20, 15, 20, 10, 0)], atol=1e-4)
    assert found.gt_instances.labels.tolist() == [0]
    assert task.find_truth([root / "train/images/b.png"], CLASSES) is None
    assert task.find_truth([root / "elsewhere.png"], CLASSES) is None
