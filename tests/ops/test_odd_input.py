"""What every operator on boxes and polygons does with no boxes, and with values that are no numbers."""

import math

import pytest
import torch

from rsfoundation import ops
from rsfoundation.ops.checks import OperatorInputError

# Operator -> widths of the tables it takes, and a call on them.
CALLS = {
    "box_iou_rotated": ((5, 5), ops.box_iou_rotated),
    "box_iou_quadri": ((8, 8), ops.box_iou_quadri),
    "convex_iou": ((18, 8), ops.convex_iou),
    "convex_giou": ((18, 8), ops.convex_giou),
    "min_area_polygons": ((18,), ops.min_area_polygons),
    "points_in_polygons": ((2, 8), ops.points_in_polygons),
    "nms": ((4, 1), lambda boxes, scores: ops.nms(boxes, scores[:, 0], 0.5)),
    "nms_rotated": ((5, 1), lambda boxes, scores: ops.nms_rotated(boxes, scores[:, 0], 0.5)),
    "nms_quadri": ((8, 1), lambda boxes, scores: ops.nms_quadri(boxes, scores[:, 0], 0.5)),
    "soft_nms": ((4, 1), lambda boxes, scores: ops.soft_nms(boxes, scores[:, 0], 0.5, 0.5, 0.05, 1)),
    "nms_match": ((5,), lambda dets: ops.nms_match(dets, 0.5)),
}
PLACES = [(name, place) for name, (widths, _) in CALLS.items() for place in range(len(widths))]


@pytest.mark.parametrize("name", CALLS)
def test_nothing_in_nothing_out(name):
    widths, call = CALLS[name]
    result = call(*(torch.zeros(0, width) for width in widths))
    for part in result if isinstance(result, (tuple, list)) else [result]:
        assert len(part) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "place"), PLACES)
def test_no_number_is_an_error_with_its_row(name, place, bad):
    widths, call = CALLS[name]
    tables = [torch.rand(3, width) + torch.arange(width) for width in widths]
    tables[place][2, 0] = bad
    with pytest.raises(OperatorInputError, match=f"{name}: row [0-2] holds NaN or infinity"):
        call(*tables)
