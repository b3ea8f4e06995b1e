"""Operators without a build step: on their own here, and behind ``mmcv.ops`` through ``ops.ext``."""

from rsfoundation.ops.depthwise import depthwise_conv2d
from rsfoundation.ops.feature_ops import carafe, deform_attention, rotated_feature_align
from rsfoundation.ops.focal_loss import sigmoid_focal, sigmoid_focal_slope, softmax_focal, softmax_focal_slope
from rsfoundation.ops.nms import nms, nms_match, nms_rotated, soft_nms
from rsfoundation.ops.polygons import (
    box_iou_quadri,
    convex_giou,
    convex_iou,
    min_area_polygons,
    nms_quadri,
    points_in_polygons,
)
from rsfoundation.ops.roi_align import RoiGrid, roi_align_average, roi_align_max
from rsfoundation.ops.roi_align_rotated import roi_align_rotated
from rsfoundation.ops.rotated_iou import box_iou, box_iou_rotated, rotated_overlap
from rsfoundation.ops.selective_scan import scan_both_ways, scan_with_state, selective_scan
from rsfoundation.ops.window_attention import window_attention

__all__ = [
    "RoiGrid",
    "box_iou",
    "box_iou_quadri",
    "box_iou_rotated",
    "carafe",
    "convex_giou",
    "convex_iou",
    "deform_attention",
    "depthwise_conv2d",
    "min_area_polygons",
    "nms",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "points_in_polygons",
    "roi_align_average",
    "roi_align_max",
    "roi_align_rotated",
    "rotated_feature_align",
    "rotated_overlap",
    "scan_both_ways",
    "scan_with_state",
    "selective_scan",
    "sigmoid_focal",
    "sigmoid_focal_slope",
    "soft_nms",
    "softmax_focal",
    "softmax_focal_slope",
    "window_attention",
]
