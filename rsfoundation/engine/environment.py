"""Choosing the device of this process before any runner asks mmengine for it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rsfoundation.core.errors import ConfigError

PACKAGES = (
    "rsfoundation",
    "torch",
    "torchvision",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "onedl-mmrotate",
    "numpy",
    "numba",
    "opencv-python-headless",
    "shapely",
    "deepspeed",
    "peft",
    "wandb",
    "rasterio",
)


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or ``None``."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def environment_report() -> dict[str, Any]:
    """Return versions, device and command as plain values, for the run folder and for bug reports."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "operators": operator_source(),
        "packages": {name: installed_version(name) for name in PACKAGES},
    }


def operator_source() -> str:
    """Say who answers for mmcv's operators: the value of ``RSF_OPS`` and what there is to choose from."""
    from rsfoundation.ops.mmcv_ext import choice, compiled_mmcv

    present = "rsfoundation.ops" if compiled_mmcv() is None else "rsfoundation.ops, compiled mmcv"
    return f"RSF_OPS={choice()}: {present}"


def use_device(name: str) -> str:
    """Make ``name`` the device of every runner in this process.

    Args:
        name: ``auto`` (CUDA where there is any), ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        ``'cpu'`` or ``'cuda'``.

    Raises:
        ConfigError: The name is unknown, or CUDA is asked for and absent.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"unknown device '{name}'", fix="use --device auto, cpu, cuda or cuda:0")
    if kind == "cpu":
        # mmengine has no setting for the device: it takes CUDA whenever CUDA is visible.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    elif index and "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name} was asked for, but torch {torch.__version__} sees no CUDA device",
            fix="`rsf doctor` says why; --device cpu runs without one",
        )
    chosen = "cuda" if kind != "cpu" and torch.cuda.is_available() else "cpu"
    _tell_mmengine(chosen)
    return chosen


def _tell_mmengine(device: str) -> None:
    """Correct the device that mmengine remembered when it was imported earlier."""
    utils = sys.modules.get("mmengine.device.utils")
    if utils is not None and getattr(utils, "DEVICE", "cpu") in ("cpu", "cuda"):
        utils.DEVICE = device  # type: ignore[attr-defined]
