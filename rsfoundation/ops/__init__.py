"""Operators without a build step: on their own here, and behind ``mmcv.ops`` through ``ops.ext``."""

from rsfoundation.ops.focal_loss import sigmoid_focal, softmax_focal
from rsfoundation.ops.nms import nms
from rsfoundation.ops.nms_rotated import nms_rotated
from rsfoundation.ops.roi_align import roi_align_average, roi_align_max
from rsfoundation.ops.roi_align_rotated import roi_align_rotated
from rsfoundation.ops.roi_sampling import RoiGrid
from rsfoundation.ops.rotated_iou import box_iou_rotated
from rsfoundation.ops.selective_scan import scan_both_ways, scan_with_state, selective_scan

__all__ = [
    "RoiGrid",
    "box_iou_rotated",
    "nms",
    "nms_rotated",
    "roi_align_average",
    "roi_align_max",
    "roi_align_rotated",
    "scan_both_ways",
    "scan_with_state",
    "selective_scan",
    "sigmoid_focal",
    "softmax_focal",
]
