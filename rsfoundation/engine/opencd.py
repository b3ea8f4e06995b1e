"""Open-CD's configs without Open-CD: its scope and its tools for pictures become ours.

Open-CD (``opencd``) is not on PyPI and refuses current releases of mmcv. Its configs name parts without a
prefix in ``default_scope='opencd'``; this package has most of them under the same names. Where a working
``opencd`` is installed, its scope is left alone.
"""

from __future__ import annotations

import functools
import importlib
import logging
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

SCOPE = "opencd"
_OURS = "rsfoundation"
_TASK = dict(type="rsfoundation.ChangeDetection")
_LINK = "https://github.com/likyoo/open-cd"
# Parts of Open-CD that this package does not have.
_ABSENT = (
    *("IFN", "HAN", "CGNet", "LightCDNet", "TinyNet", "TinyFPN", "TinyHead", "DS_FPNHead", "FarSegFPN"),
    *("FarSegHead", "ChangeStarHead", "BAN", "BitemporalAdapterHead", "BAN_MLPDecoder", "BAN_BITHead"),
    *("TimeTravellingPixels", "VisionTransformerTurner", "ViTSAM_Custom", "MLPSegHead"),
    *("TimeFusionTransformerEncoderLayer", "SimpleFPN", "SequentialNeck", "DistillDIEncoderDecoder_S"),
    *("DistillSiamEncoderDecoder_ChangeStar", "DistillLossChangeStar", "DistillDIEncoderDecoder_TTP"),
)


@functools.cache
def why_unusable() -> str | None:
    """Say why ``opencd`` cannot be used; ``None`` where it can. It is imported only here."""
    if find_spec(SCOPE) is None:
        return "opencd is not installed"
    try:
        importlib.import_module(SCOPE)
    except Exception as error:  # it asserts the versions of what it builds on, and they raise anything
        return f"the installed opencd cannot be imported ({type(error).__name__}: {error})"
    return None


def adopt_opencd_config(cfg: Config) -> None:
    """Let a config of Open-CD run here, in place; any other config stays as it is.

    Changed are the scope, the tools that draw pictures (runs here draw their own), and, where they are
    missing, the task and the metrics of the changed class.

    Args:
        cfg: The config as read.
    """
    if cfg.get("default_scope") != SCOPE:
        return
    cfg.setdefault("task", dict(_TASK))
    reason = why_unusable()
    if reason is not None:
        print_log(f"{reason}: its types are taken from {_OURS}", logger="current", level=logging.INFO)
        cfg.default_scope = _OURS
        for key in list(cfg.keys()):
            cfg[key] = _rename(cfg[key])
        _replace_pictures(cfg)
    for key in ("val_evaluator", "test_evaluator"):
        if cfg.get(key):
            cfg[key] = _with_change_metric(cfg[key])


def absent_part(name: str) -> str | None:
    """Return what to say of a type that Open-CD has and this package has not; ``None`` for any other type."""
    short = name.removeprefix(f"{SCOPE}.").removeprefix(f"{_OURS}.")
    if short not in _ABSENT:
        return None
    return f"'{short}' is a part of Open-CD ({_LINK}) that this package does not have"


def _rename(node: Any) -> Any:
    """Replace the prefix of Open-CD's scope in every type of a part of a config."""
    if isinstance(node, dict):
        for key, value in node.items():
            node[key] = _rename(value)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(_rename(item) for item in node)
    prefix = f"{SCOPE}."
    return (
        f"{_OURS}.{node.removeprefix(prefix)}" if isinstance(node, str) and node.startswith(prefix) else node
    )


def _replace_pictures(cfg: Config) -> None:
    """Take mmengine's visualizer, and leave out Open-CD's hook: runs here draw pairs themselves."""
    visualizer = cfg.get("visualizer")
    if visualizer:
        backends = [
            dict(type="LocalVisBackend") if _short(backend) == "CDLocalVisBackend" else backend
            for backend in visualizer.get("vis_backends") or []
        ]
        cfg.visualizer = dict(type="Visualizer", vis_backends=backends or [dict(type="LocalVisBackend")])
    cfg.pop("vis_backends", None)
    hooks = cfg.get("default_hooks") or {}
    if _short(hooks.get("visualization") or {}) == "CDVisualizationHook":
        hooks.pop("visualization")


def _short(part: Any) -> str:
    return str(part.get("type", "")).rpartition(".")[2]


def _with_change_metric(evaluator: Any) -> Any:
    """Add the metrics of the changed class to the means over both classes, which nobody publishes."""
    metrics = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    if [_short(metric) for metric in metrics] != ["IoUMetric"]:
        return evaluator
    return [*metrics, dict(type="rsfoundation.ChangeMetric")]
