"""Flips and rotations: painted objects and their boxes stay together to a fraction of a pixel."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.datasets.transforms.images import RandomFlip, RandomRotate, Rotate
from rsfoundation.geometry import boxes as bx
from rsfoundation.registry import TRANSFORMS

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


def painted(height, width, box):
    """Paint a box by testing 4 x 4 points of every pixel against it: independent of OpenCV's rules."""
    ys, xs = (np.mgrid[: 4 * height, : 4 * width] + 0.5) / 4 - 0.5  # pixel centres are at integers
    cx, cy, w, h, angle = box
    along = (xs - cx) * np.cos(angle) + (ys - cy) * np.sin(angle)
    across = -(xs - cx) * np.sin(angle) + (ys - cy) * np.cos(angle)
    inside = (np.abs(along) <= w / 2) & (np.abs(across) <= h / 2)
    share = inside.reshape(height, 4, width, 4).mean(axis=(1, 3))
    return np.repeat(np.uint8(255 * share)[..., None], 3, axis=2)


def overlap(image, box):
    """IoU of the bright pixels of an image and the pixels of a box."""
    shape = painted(*image.shape[:2], box)[..., 0] > 127
    bright = image[..., 0] > 127
    return (shape & bright).sum() / max((shape | bright).sum(), 1)


boxes_inside = st.tuples(
    st.floats(60, 100), st.floats(50, 70), st.floats(24, 50), st.floats(14, 40), st.floats(-1.5, 1.5)
)


def sample(box, **more):
    return {
        "img": painted(HEIGHT, WIDTH, box),
        "img_shape": (HEIGHT, WIDTH),
        "gt_bboxes": RotatedBoxes([box]),
        "gt_bboxes_labels": np.array([9]),
        "gt_ignore_flags": np.array([False]),
        **more,
    }


@settings(max_examples=25)
@given(boxes_inside, st.sampled_from(["horizontal", "vertical", "diagonal"]), st.floats(-180, 180))
def test_pixels_and_boxes_move_together(box, direction, degrees):
    done = RandomFlip(prob=1.0, direction=direction).transform(sample(box))
    assert overlap(done["img"], done["gt_bboxes"].tensor[0].numpy()) > 0.93
    done = Rotate(rotate_angle=degrees).transform(done)
    assert overlap(done["img"], done["gt_bboxes"].tensor[0].numpy()) > 0.9
    centre = np.array(centroid(done["img"]))
    np.testing.assert_allclose(done["gt_bboxes"].tensor[0, :2].numpy(), centre, atol=0.2)


@pytest.mark.parametrize("scale", [(80, 60), (320, 240), (200, 400)])
def test_resizing_keeps_pixels_and_boxes_within_half_a_pixel(scale):
    """mmdet scales coordinates without the half pixel, in training and at test alike: so does every peer."""
    box = (80.0, 60, 60, 30, 0.6)
    done = TRANSFORMS.build({"type": "mmdet.Resize", "scale": scale, "keep_ratio": True})(sample(box))
    factor = done["scale_factor"][0]
    shift = np.array(centroid(done["img"])) - done["gt_bboxes"].tensor[0, :2].numpy()
    np.testing.assert_allclose(shift, (factor - 1) / 2, atol=0.1)


@pytest.mark.parametrize(("compat", "shift"), [(None, 0), ("0.x", 0), ("1.x", 1)])
def test_flips_of_other_versions(compat, shift):
    done = RandomFlip(prob=1.0, direction="diagonal", compat=compat).transform(sample(BOX))
    expected = (WIDTH - 1 - BOX[0] + shift, HEIGHT - 1 - BOX[1] + shift)
    np.testing.assert_allclose(done["gt_bboxes"].tensor[0, :2], expected, atol=1e-4)


@pytest.mark.parametrize("compat", ["0.x", "1.x"])
def test_rotations_of_other_versions_are_half_a_pixel_off(compat):
    """Both turn the image about (W - 1) / 2 and the boxes about W / 2."""
    done = Rotate(rotate_angle=90, compat=compat).transform(sample(BOX))
    off = done["gt_bboxes"].tensor[0, :2].numpy() - np.array(centroid(done["img"]))
    np.testing.assert_allclose(off, (1, 0), atol=0.05)  # half a pixel to the side, and its turn by 90 degrees
    theirs = TRANSFORMS.build({"type": "mmrotate.Rotate", "rotate_angle": 90}).transform(sample(BOX))
    np.testing.assert_allclose(done["gt_bboxes"].tensor, theirs["gt_bboxes"].tensor, atol=1e-4)


def two_boxes():
    results = sample(BOX)
    results["gt_bboxes"] = RotatedBoxes([BOX, (80, 60, 30, 5, 0.3)])
    results["gt_bboxes_labels"] = np.array([9, 3])
    results["gt_ignore_flags"] = np.array([True, False])
    return results


@pytest.mark.parametrize("prob", [0.0, 1.0])
@pytest.mark.parametrize(
    ("options", "kept"), [({}, [9]), ({"compat": "1.x"}, [9, 3]), ({"min_side": 20}, [])]
)
def test_narrow_boxes_are_dropped_turned_or_not(prob, options, kept):
    done = RandomRotate(prob=prob, angle_range=10, resample_empty=False, **options).transform(two_boxes())
    assert done["gt_bboxes_labels"].tolist() == kept
    assert len(done["gt_bboxes"]) == len(done["gt_ignore_flags"]) == len(kept)


def test_an_emptied_image_gives_way_and_an_empty_one_does_not(results):
    assert RandomRotate(prob=0.0, min_side=40).transform(sample(BOX)) is None
    assert RandomRotate(prob=0.0, min_side=40, compat="1.x").transform(sample(BOX)) is not None
    results.update(gt_bboxes=RotatedBoxes([]), gt_bboxes_labels=np.array([], dtype=int))
    assert RandomRotate(prob=1.0).transform(results) is not None


def test_upright_labels_of_the_data_set_turn_by_right_angles():
    angles = set()
    for seed in range(12):
        np.random.seed(seed)
        done = RandomRotate(prob=1.0).transform(sample(BOX, upright_labels=[9]))
        angles.add(round(abs(bx.normalise(done["gt_bboxes"].tensor.numpy())[0, 4]), 4))
        np.random.seed(seed)
        other = RandomRotate(prob=1.0, rect_obj_labels=[3]).transform(sample(BOX, upright_labels=[9]))
        turned = bx.normalise(other["gt_bboxes"].tensor.numpy())[0, 4] if other else 1.0
        assert min(abs(turned), abs(abs(turned) - np.pi / 2)) > 1e-3  # given labels go before the data set's
    assert angles == {0.0, 1.5708}


def test_a_data_set_takes_another_image_for_an_emptied_one(make_split):
    rows = {"a": "10 10 20 10 20 14 10 14 ship 0", "b": "10 10 30 10 30 24 10 24 ship 0"}
    load = {"type": "mmdet.LoadAnnotations", "with_bbox": True, "box_type": "qbox"}
    convert = {"type": "mmrotate.ConvertBoxType", "box_type_mapping": {"gt_bboxes": "rbox"}}
    pipeline = [
        {"type": "rsfoundation.LoadImageFromFile"},
        load,
        convert,
        {"type": "rsfoundation.RandomRotate", "prob": 0.0},
    ]
    data = DOTADataset(data_root=str(make_split(rows)), pipeline=pipeline)
    assert [data[0]["img_id"], data[1]["img_id"]] == ["b", "b"]
