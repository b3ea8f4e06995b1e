"""What a run ran on: versions, device, host."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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
    from rsfoundation.ops.backend import choice, compiled_mmcv

    present = "rsfoundation.ops" if compiled_mmcv() is None else "rsfoundation.ops, compiled mmcv"
    return f"RSF_OPS={choice()}: {present}"
