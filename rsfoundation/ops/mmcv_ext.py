"""The stand-in for mmcv's compiled extension ``mmcv._ext``.

mmcv asks for its operators by name when it is imported and calls them much later. So every name has an
answer, and each call decides which: the operator of this package, a compiled one, or an error with the name
of the missing operator.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import types
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from rsfoundation.core.errors import ConfigError, MissingOperatorError

Choice = Literal["auto", "builtin", "mmcv"]
_VARIABLE, _EXTENSION = "RSF_OPS", "mmcv._ext"


def choice() -> Choice:
    """Read ``RSF_OPS``.

    Raises:
        ConfigError: It holds none of the three words.
    """
    value = os.environ.get(_VARIABLE, "auto")
    for allowed in get_args(Choice):
        if value == allowed:
            return allowed
    raise ConfigError(
        f"{_VARIABLE} is {value!r}; it may be {', '.join(get_args(Choice))}", where="environment"
    )


@lru_cache(maxsize=1)
def compiled_mmcv() -> ModuleType | None:
    """Return the compiled extension of mmcv, or None where mmcv came without one."""
    package = importlib.util.find_spec("mmcv")
    places = None if package is None else package.submodule_search_locations
    spec = None if places is None else importlib.machinery.PathFinder.find_spec(_EXTENSION, list(places))
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pick(name: str, builtin: Callable[..., Any] | None, args: Iterable[Any]) -> Callable[..., Any]:
    """Return the function that answers for ``name``.

    Args:
        name: mmcv's name of the operator.
        builtin: The implementation of this package, if there is one.
        args: The operator's arguments; a CUDA tensor among them counts.

    Raises:
        MissingOperatorError: Neither exists, or the one that ``RSF_OPS`` asks for does not.
    """
    wanted = choice()
    if builtin is not None and (wanted == "builtin" or (wanted == "auto" and not _on_cuda(args))):
        return builtin
    compiled = None if wanted == "builtin" else getattr(compiled_mmcv(), name, None)
    if compiled is not None:
        return compiled
    if builtin is not None and wanted == "auto":
        return builtin
    raise MissingOperatorError(
        f"no implementation of the mmcv operator {name!r} for {_VARIABLE}={wanted}",
        fix="install a compiled onedl-mmcv: MMCV_WITH_OPS=1 pip install --no-binary onedl-mmcv "
        "--no-build-isolation onedl-mmcv (docs/operators.md lists the operators that need none)",
    )


def _on_cuda(args: Iterable[Any]) -> bool:
    return any(isinstance(arg, torch.Tensor) and arg.is_cuda for arg in args)


# Module of rsfoundation.ops -> the operators of mmcv that it answers; their functions have the same name with
# `_mmcv_` before it.
IMPLEMENTED: dict[str, tuple[str, ...]] = {
    "suppression": ("nms", "nms_rotated", "softnms", "nms_match", "bbox_overlaps"),
    "rotated_iou": ("box_iou_rotated", "diff_iou_rotated_sort_vertices_forward"),
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
    "roi_align": ("roi_align_forward", "roi_align_backward", "roi_pool_forward", "roi_pool_backward"),
    "rotated_roi_align": (
        "roi_align_rotated_forward",
        "roi_align_rotated_backward",
        "riroi_align_rotated_forward",
        "riroi_align_rotated_backward",
    ),
    "focal_loss": (
        "sigmoid_focal_loss_forward",
        "sigmoid_focal_loss_backward",
        "softmax_focal_loss_forward",
        "softmax_focal_loss_backward",
    ),
    "deform_conv": (
        "deform_conv_forward",
        "deform_conv_backward_input",
        "deform_conv_backward_parameters",
        "modulated_deform_conv_forward",
        "modulated_deform_conv_backward",
    ),
    "feature_ops": (
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
    "mmcv_ext": ("get_compiler_version", "get_compiling_cuda_version"),
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
    return getattr(importlib.import_module(f"rsfoundation.ops.{_HOME[name]}"), f"_mmcv_{name}")


def _mmcv_get_compiler_version() -> str:
    """Return that nothing was compiled."""
    return "none (rsfoundation.ops)"


def _mmcv_get_compiling_cuda_version() -> str:
    """Return that nothing was compiled."""
    return "not available"
