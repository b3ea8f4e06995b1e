"""Flips and rotations: painted objects and their boxes stay together to a fraction of a pixel."""

import cv2
import numpy as np
import pytest
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.detection import RandomFlip, RandomRotate, Rotate
from rsfoundation.registry import TRANSFORMS
from rsfoundation.structures import boxes as bx

HEIGHT, WIDTH = 120, 160
BOX = (50.0, 40.0, 31.0, 15.0, 0.0)


@pytest.fixture
def results():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[33:48, 35:66] = 255  # pixels whose centres lie in the box, whose edges are half pixels
    return {
        "img": image,
        "img_shape": (HEIGHT, WIDTH),
        "gt_bboxes": RotatedBoxes([BOX]),
        "gt_bboxes_labels": np.array([9]),
        "gt_ignore_flags": np.array([False]),
    }


def centroid(image):
    weights = image[..., 0].astype(float)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    return (weights * xs).sum() / weights.sum(), (weights * ys).sum() / weights.sum()


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_flip_is_exact(results, direction):
    done = RandomFlip(prob=1.0, direction=direction).transform(results)
    box = done["gt_bboxes"].tensor.numpy()
    np.testing.assert_allclose(box[0, :2], centroid(done["img"]), atol=1e-4)
    expected = bx.flip(BOX, HEIGHT, WIDTH, direction)
    np.testing.assert_allclose(bx.normalise(box), expected, atol=1e-4)


def test_no_flip_moves_nothing(results):
    done = RandomFlip(prob=0.0).transform(results)
    np.testing.assert_allclose(done["gt_bboxes"].tensor[0], BOX)


@pytest.mark.parametrize("degrees", [30, -75, 90, 180])
def test_rotation_follows_the_image(results, degrees):
    done = Rotate(rotate_angle=degrees).transform(results)
    box = done["gt_bboxes"].tensor.numpy()
    np.testing.assert_allclose(box[0, :2], centroid(done["img"]), atol=0.05)
    expected = bx.rotate(BOX, HEIGHT, WIDTH, np.deg2rad(degrees))
    np.testing.assert_allclose(bx.rbox_to_quad(bx.normalise(box)), bx.rbox_to_quad(expected), atol=1e-3)
    painted = cv2.contourArea(cv2.convexHull(cv2.findNonZero((done["img"][..., 0] > 127).astype(np.uint8))))
    assert painted == pytest.approx(30 * 14, rel=0.1)


def test_boxes_leaving_the_image_are_dropped_with_their_labels(results):
    results["gt_bboxes"] = RotatedBoxes([BOX, (155.0, 5, 8, 4, 0)])
    results["gt_bboxes_labels"] = np.array([9, 6])
    results["gt_ignore_flags"] = np.array([False, True])
    done = Rotate(rotate_angle=90).transform(results)
    assert len(done["gt_bboxes"]) == 1 and done["gt_bboxes_labels"].tolist() == [9]


def test_images_with_upright_classes_turn_by_right_angles(results):
    np.random.seed(0)
    done = RandomRotate(prob=1.0, rect_obj_labels=[9]).transform(results)
    box = bx.normalise(done["gt_bboxes"].tensor.numpy())[0]
    assert min(abs(box[4]), abs(abs(box[4]) - np.pi / 2)) < 1e-5


def test_rotation_of_an_image_without_objects(results):
    results["gt_bboxes"] = RotatedBoxes([])
    assert len(RandomRotate(prob=1.0).transform(results)["gt_bboxes"]) == 0


def test_registered_under_our_scope():
    assert TRANSFORMS.get("rsfoundation.RandomRotate") is RandomRotate
