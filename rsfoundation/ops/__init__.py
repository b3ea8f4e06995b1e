"""Operators without a build step: to call directly, and behind ``mmcv.ops`` (``rsfoundation.ops.mmcv_ext``).

Each name loads its module when it is first used (PEP 562): one operator loads neither the others nor numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsfoundation.ops.convolution import narrow_conv2d, pointwise_conv2d
    from rsfoundation.ops.depthwise import depthwise_conv2d
    from rsfoundation.ops.feature_ops import carafe, deform_attention, rotated_feature_align
    from rsfoundation.ops.focal_loss import (
        sigmoid_focal,
        sigmoid_focal_slope,
        softmax_focal,
        softmax_focal_slope,
    )
    from rsfoundation.ops.mamba_scan import scan_both_ways, scan_with_state, selective_scan
    from rsfoundation.ops.polygons import (
        box_iou_quadri,
        convex_giou,
        convex_iou,
        min_area_polygons,
        nms_quadri,
        points_in_polygons,
    )
    from rsfoundation.ops.roi_align import RoiGrid, roi_align_average, roi_align_max
    from rsfoundation.ops.rotated_iou import box_iou_rotated, rotated_overlap
    from rsfoundation.ops.rotated_roi_align import roi_align_rotated
    from rsfoundation.ops.suppression import box_iou, nms, nms_match, nms_rotated, soft_nms
    from rsfoundation.ops.swin_attention import window_attention

_MODULE_OF = {
    "RoiGrid": "roi_align",
    "box_iou": "suppression",
    "box_iou_quadri": "polygons",
    "box_iou_rotated": "rotated_iou",
    "carafe": "feature_ops",
    "convex_giou": "polygons",
    "convex_iou": "polygons",
    "deform_attention": "feature_ops",
    "depthwise_conv2d": "depthwise",
    "min_area_polygons": "polygons",
    "narrow_conv2d": "convolution",
    "nms": "suppression",
    "nms_match": "suppression",
    "nms_quadri": "polygons",
    "nms_rotated": "suppression",
    "pointwise_conv2d": "convolution",
    "points_in_polygons": "polygons",
    "roi_align_average": "roi_align",
    "roi_align_max": "roi_align",
    "roi_align_rotated": "rotated_roi_align",
    "rotated_feature_align": "feature_ops",
    "rotated_overlap": "rotated_iou",
    "scan_both_ways": "mamba_scan",
    "scan_with_state": "mamba_scan",
    "selective_scan": "mamba_scan",
    "sigmoid_focal": "focal_loss",
    "sigmoid_focal_slope": "focal_loss",
    "soft_nms": "suppression",
    "softmax_focal": "focal_loss",
    "softmax_focal_slope": "focal_loss",
    "window_attention": "swin_attention",
}

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
    "narrow_conv2d",
    "nms",
    "nms_match",
    "nms_quadri",
    "nms_rotated",
    "points_in_polygons",
    "pointwise_conv2d",
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


def __getattr__(name: str) -> Any:
    """Load the operator ``name``."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
