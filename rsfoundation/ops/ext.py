"""The stand-in for mmcv's compiled extension ``mmcv._ext``.

mmcv asks for its operators by name when it is imported and calls them much later. Every name is thus
answered, and what answers is settled at the call: our operator, a compiled one, or an error that says
what is missing (see :mod:`rsfoundation.ops.backend`).
"""

import importlib
import types
from collections.abc import Callable
from typing import Any

from rsfoundation.ops.backend import pick

_ADAPTERS = "rsfoundation.ops.adapters"

# Module of rsfoundation.ops.adapters -> the operator names of mmcv that it answers.
IMPLEMENTED: dict[str, tuple[str, ...]] = {
    "boxes": (
        "nms",
        "nms_rotated",
        "box_iou_rotated",
        "bbox_overlaps",
        "softnms",
        "nms_match",
        "diff_iou_rotated_sort_vertices_forward",
    ),
    "polygons": (
        "box_iou_quadri",
        "nms_quadri",
        "convex_iou",
        "convex_giou",
        "min_area_polygons",
        "points_in_polygons_forward",
        "chamfer_distance_forward",
        "chamfer_distance_backward",
    ),
    "pooling": (
        "roi_align_forward",
        "roi_align_backward",
        "roi_align_rotated_forward",
        "roi_align_rotated_backward",
        "riroi_align_rotated_forward",
        "riroi_align_rotated_backward",
        "roi_pool_forward",
        "roi_pool_backward",
    ),
    "sampling": (
        "deform_conv_forward",
        "deform_conv_backward_input",
        "deform_conv_backward_parameters",
        "modulated_deform_conv_forward",
        "modulated_deform_conv_backward",
        "ms_deform_attn_forward",
        "ms_deform_attn_backward",
        "rotated_feature_align_forward",
        "rotated_feature_align_backward",
        "active_rotated_filter_forward",
        "active_rotated_filter_backward",
        "carafe_forward",
        "carafe_backward",
        "carafe_naive_forward",
        "carafe_naive_backward",
        "masked_im2col_forward",
        "masked_col2im_forward",
    ),
    "losses": (
        "sigmoid_focal_loss_forward",
        "sigmoid_focal_loss_backward",
        "softmax_focal_loss_forward",
        "softmax_focal_loss_backward",
    ),
    "build": ("get_compiler_version", "get_compiling_cuda_version"),
}

_HOME = {name: module for module, names in IMPLEMENTED.items() for name in names}


class StandIn(types.ModuleType):
    """A module whose attributes are mmcv's operators."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the operator ``name``; one that nobody implements raises when it is called."""
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        operator = _operator(name)
        setattr(self, name, operator)
        return operator


def _operator(name: str) -> Callable[..., Any]:
    def operator(*args: Any, **kwargs: Any) -> Any:
        return pick(name, _builtin(name), (*args, *kwargs.values()))(*args, **kwargs)

    operator.__name__ = operator.__qualname__ = name
    return operator


def _builtin(name: str) -> Callable[..., Any] | None:
    if name not in _HOME:
        return None
    return getattr(importlib.import_module(f"{_ADAPTERS}.{_HOME[name]}"), name)
