"""Choosing the device of this process before any runner asks mmengine for it."""

import os
import sys

from rsfoundation.errors import ConfigError


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
        raise ConfigError(f"unknown device '{name}'", cure="use --device auto, cpu, cuda or cuda:0")
    if kind == "cpu":
        # mmengine has no setting for the device: it takes CUDA whenever CUDA is visible.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    elif index and "LOCAL_RANK" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    import torch

    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name} was asked for, but torch {torch.__version__} sees no CUDA device",
            cure="`rsf doctor` says why; --device cpu runs without one",
        )
    chosen = "cuda" if kind != "cpu" and torch.cuda.is_available() else "cpu"
    _tell_mmengine(chosen)
    return chosen


def _tell_mmengine(device: str) -> None:
    """Correct the device that mmengine remembered when it was imported earlier."""
    utils = sys.modules.get("mmengine.device.utils")
    if utils is not None and getattr(utils, "DEVICE", "cpu") in ("cpu", "cuda"):
        utils.DEVICE = device  # type: ignore[attr-defined]
