"""mmrotate's boxes where x and y are scaled by different factors, in pipelines and on the way back."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize
from mmrotate.structures.bbox import RotatedBoxes
from shapely.geometry import Polygon

import rsfoundation._rotated_boxes as correction
from rsfoundation.geometry.boxes import quad_to_rbox, rbox_to_quad


def overlap(one, other):
    one, other = (Polygon(rbox_to_quad(box)[0]) for box in (one, other))
    return one.intersection(other).area / one.union(other).area


def box(degrees):
    return np.array([[200, 100, 80, 20, np.deg2rad(degrees)]])


@pytest.mark.parametrize("degrees", [30, -30, 60, 0, 45, 100])
def test_a_resize_that_stretches_moves_boxes_with_the_pixels(degrees):
    results = dict(
        img=np.zeros((200, 400, 3), np.uint8),
        img_shape=(200, 400),
        gt_bboxes=RotatedBoxes(torch.from_numpy(box(degrees))),
    )
    found = Resize(scale=(400, 400), keep_ratio=False)(results)["gt_bboxes"].tensor.numpy()
    smallest = quad_to_rbox(rbox_to_quad(box(degrees)) * [1, 2])
    assert overlap(found, smallest) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("degrees", "reached"), [(30, 0.729), (60, 0.833), (45, 0.769), (10, 0.810)])
def test_detections_are_mapped_back_as_well_as_rectangles_can_be(degrees, reached):
    found = quad_to_rbox(rbox_to_quad(box(degrees)) * [1, 2])
    boxes = RotatedBoxes(torch.from_numpy(found))
    boxes.rescale_((1.0, 0.5))
    assert overlap(boxes.tensor.numpy(), box(degrees)) == pytest.approx(reached, abs=2e-3)


def test_equal_factors_take_the_method_of_mmrotate():
    boxes = RotatedBoxes(torch.tensor([[10.0, 20, 30, 8, 4.0]]))
    boxes.rescale_((2.0, 2.0))
    expected = torch.tensor([[20.0, 40, 60, 16, 4 - 2 * np.pi]])  # mmrotate's atan2 brings theta into range
    torch.testing.assert_close(boxes.tensor, expected)


def test_a_second_call_replaces_nothing():
    before = RotatedBoxes.rescale_
    correction.install()
    assert RotatedBoxes.rescale_ is before


BEFORE = "import rsfoundation, mmrotate.structures"
AFTER = """
import sys
from rsfoundation import _rotated_boxes
sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _rotated_boxes._RotatedBoxesFinder)]
import mmrotate.structures
_rotated_boxes.install()
"""
STRETCH = """
import torch
boxes = mmrotate.structures.RotatedBoxes(torch.tensor([[0.0, 0, 80, 20, 0.5236]]))
boxes.rescale_((1, 2))
print(boxes.tensor[0, 2].item())
"""


@pytest.mark.parametrize("imports", [BEFORE, AFTER])
def test_the_order_of_imports_does_not_matter(imports):
    script = [sys.executable, "-c", imports + STRETCH]
    output = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert float(output.split()[-1]) == pytest.approx(125.5, abs=0.1)
